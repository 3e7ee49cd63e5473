"""Data sets: files in, tensors out; knows no models."""
