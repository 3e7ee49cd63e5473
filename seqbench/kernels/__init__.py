"""From a cell's step to code for whole sequences: traced, planned, and lowered to torch, CPU and GPU."""
