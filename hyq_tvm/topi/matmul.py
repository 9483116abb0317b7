"""Dense layers and batched matrix products in TE (clauses M1, M2)."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te

from hyq_tvm.topi.epilogue import Stage, finish
from hyq_tvm.topi.fixed_point import Expr
from hyq_tvm.topi.registry import operator


@operator("dense")
def dense(
    x: te.Tensor,
    weight: te.Tensor,
    bias: te.Tensor,
    *tensors: te.Tensor,
    epilogue: Sequence[Stage],
) -> te.Tensor:
    """M1: int8 ``x [M,K]`` and ``weight [N,K]``, int32 ``bias [N]``. Blocks: dense, epilogue."""
    rk = te.reduce_axis((0, x.shape[1]), "rk")

    def product(m: Expr, n: Expr) -> Expr:
        return te.sum(x[m, rk].astype("int32") * weight[n, rk].astype("int32"), axis=rk)

    acc = te.compute((x.shape[0], weight.shape[0]), product, name="dense")
    return finish(acc, epilogue, tensors, bias)


@operator("matmul")
def matmul(a: te.Tensor, b: te.Tensor, *tensors: te.Tensor, epilogue: Sequence[Stage]) -> te.Tensor:
    """M2: int8 ``a [B,M,K]`` and ``b [B,N,K]``. Blocks: matmul, epilogue."""
    rk = te.reduce_axis((0, a.shape[2]), "rk")

    def product(i: Expr, m: Expr, n: Expr) -> Expr:
        return te.sum(a[i, m, rk].astype("int32") * b[i, n, rk].astype("int32"), axis=rk)

    acc = te.compute((a.shape[0], a.shape[1], b.shape[1]), product, name="matmul")
    return finish(acc, epilogue, tensors)
