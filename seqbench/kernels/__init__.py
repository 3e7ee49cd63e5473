"""From a cell's step to code for whole sequences; no line here knows a particular cell.  Told in docs/compiler.md.

sequence.py      how a layer runs over time, decided once, and its autograd
show.py          each stage as text

compiler/
trace.py         the step, run once on small tensors, becomes expressions; or it is refused, by operation and line
expression.py    elementwise operations: meaning in torch, derivative, spelling on CPU and GPU, a row each
planner.py       slots, passes, what is saved; reverse mode; the result is a plan (plan.py), which prints readably
verify.py        what must hold of any plan
proof.py         a plan run in torch, any dtype

cpu/
lowering.py      a plan as numba source, on the vectors of vector.py and the matrix product of product.py
layer.py         a layer run by it, in tiles of the batch (tiles.py) and in pieces of unequal length (lengths.py)
dense.py         the projection beside the layer
output.py        the head: affine map and likelihood (likelihood.py) in one
loops.py         weight noise and the step of Chung's RMSProp
arguments.py     what compiled code is given, by name
cache.py, pool.py, threads.py   generated source on disk, buffers used again, threads of our own

gpu/
lowering.py      a plan run by Triton source (source.py, blocks.py)
"""
