"""From a cell's step to code for whole sequences; no line here knows a particular cell.

trace.py        the step, run once on small tensors, becomes expressions; or it is refused, by operation and line
expression.py   elementwise operations: meaning in torch, derivative, spelling on CPU and GPU, a row each
planner.py      slots, passes, what is saved; reverse mode; the result is a plan (plan.py), which prints readably
lower_torch.py  a plan run in torch, any dtype: its proof
lower_numba.py  a plan as numba source, on the vectors of vector.py and the matrix product of product.py; run by cpu.py,
                in tiles of the batch (tiles.py)
lower_triton.py a plan as Triton source (triton_source.py, triton_blocks.py)
sequence.py     which of these a layer takes, and its autograd
dense.py        the projection beside the layer, on a CPU
output.py       the head: affine map and likelihood (likelihood.py) in one, on a CPU
lengths.py      pieces of work of unequal length, on a CPU
loops.py        weight noise and the step of Chung's RMSProp, on a CPU
cache.py, pool.py, threads.py   generated source on disk, buffers used again, threads of our own
"""
