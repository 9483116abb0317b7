"""The table of TE operators and the PrimFuncs made from it."""

from __future__ import annotations

import json
import operator as arithmetic
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import te

Compute = Callable[..., te.Tensor]

OPERATORS: dict[str, Compute] = {}
"""Name -> ``compute(*tensors, **params) -> te.Tensor``, twins of ``hyq_tvm.numerics.OPERATORS``."""

OP_ATTRIBUTE = "hyq.op"
PARAMS_ATTRIBUTE = "hyq.params"


def operator(name: str) -> Callable[[Compute], Compute]:
    """Decorator that enters a compute under ``name``; raises ``ValueError`` if that is taken."""

    def register(function: Compute) -> Compute:
        if name in OPERATORS:
            raise ValueError(f"operator {name!r} is defined twice")
        OPERATORS[name] = function
        return function

    return register


def prim_func(
    op: str, params: Mapping[str, Any], arguments: Sequence[tuple[Sequence[int], str]]
) -> Any:
    """The unscheduled PrimFunc of one operator: its arguments in order, then its output buffer.

    ``arguments``: (shape, dtype) of every tensor. The function carries the attributes ``hyq.op``
    and ``hyq.params`` (JSON with sorted keys), by which passes and the golden interpreter know it.
    Raises ``ValueError`` naming the operators there are when ``op`` is none of them.
    """
    if op not in OPERATORS:
        raise ValueError(f"no operator {op!r}; known: {sorted(OPERATORS)}")
    text = encode_params(params)
    inputs = [
        te.placeholder(tuple(int(n) for n in shape), dtype, name=f"arg{i}")
        for i, (shape, dtype) in enumerate(arguments)
    ]
    # The parameters pass through JSON so that the compute sees what the interpreter will see.
    output = OPERATORS[op](*inputs, **json.loads(text))
    function = te.create_prim_func([*inputs, output])
    return function.with_attrs({OP_ATTRIBUTE: op, PARAMS_ATTRIBUTE: text})


def encode_params(params: Mapping[str, Any]) -> str:
    """JSON with sorted keys; NumPy scalars become numbers, else ``TypeError``."""
    return json.dumps(dict(params), sort_keys=True, default=_plain)


def _plain(value: Any) -> int | float:
    try:
        return arithmetic.index(value)
    except TypeError:
        return float(value)
