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
layer_norm, group_norm        norm_sum, norm_square_sum, norm_variance, norm_square,
                              norm_root_high, norm_root_middle, norm_root_low, norm_root,
                              norm_shift, norm
softmax                       softmax_max, softmax_mantissa (kind table), softmax_exp,
                              softmax_sum, softmax_multiplier and softmax_shift (outputs uint8
                              and grid) or softmax_limit (log2_4bit), softmax
attention                     attention_scores (int32, without bias), attention_logits,
                              attention_max, attention_exp, attention_sum, attention_values
                              (before it attention_high and attention_low for 16-bit weights),
                              attention_multiplier, attention_shift, attention
============================  ==================================================================

The ``epilogue`` block is always one compute over the whole output: bias and all stages are one
expression of it.
"""

from hyq_tvm.topi import (
    attention,
    conv2d,
    edges,
    elementwise,
    layout,
    matmul,
    norm,
    pool,
    softmax,
)
from hyq_tvm.topi.float_softmax import exact_softmax
from hyq_tvm.topi.registry import OPERATORS, prim_func
from hyq_tvm.topi.softmax import linear_softmax

__all__ = [
    "OPERATORS",
    "attention",
    "conv2d",
    "edges",
    "elementwise",
    "exact_softmax",
    "layout",
    "linear_softmax",
    "matmul",
    "norm",
    "pool",
    "prim_func",
    "softmax",
]
