"""Every integer operator of docs/numerics.md in TE: the twins of ``hyq_tvm.numerics``.

``OPERATORS[name](*te_tensors, **params) -> te.Tensor``; ``prim_func`` makes the marked PrimFunc
that an integer module calls. Schedules rely on the names of the blocks:

============================  ==================================================================
operator                      blocks, in order
============================  ==================================================================
conv2d                        pad (where padding is not zero); conv, or depthwise where each
                              group has one input channel (int32, without bias); epilogue
dense, matmul                 dense or matmul (int32, without bias); epilogue
identity, multiply            epilogue
reduce_sum                    sum; epilogue
avg_pool2d                    pad (where padding is not zero); window_sum; epilogue
max_pool2d                    pad (where padding is not zero); window_max
add, concat, view, pad,       one block of the operator's name
quantize, dequantize
============================  ==================================================================

The ``epilogue`` block is always one compute over the whole output: bias and all stages are one
expression of it.
"""

from hyq_tvm.topi import conv2d, edges, elementwise, layout, matmul, pool
from hyq_tvm.topi.registry import OPERATORS, prim_func

__all__ = [
    "OPERATORS",
    "conv2d",
    "edges",
    "elementwise",
    "layout",
    "matmul",
    "pool",
    "prim_func",
]
