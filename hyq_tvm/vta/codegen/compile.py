"""From an integer program to an accelerator program, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.numerics import OPERATORS
from hyq_tvm.vta.arch import DEFAULT, VTAConfig
from hyq_tvm.vta.codegen.attention import lower_attention, lower_softmax
from hyq_tvm.vta.codegen.choices import Choose, own
from hyq_tvm.vta.codegen.context import Context
from hyq_tvm.vta.codegen.convolution import lower_conv2d
from hyq_tvm.vta.codegen.elementwise import (
    lower_add,
    lower_identity,
    lower_multiply,
    lower_reduce_sum,
)
from hyq_tvm.vta.codegen.folding import fold_views, results
from hyq_tvm.vta.codegen.memory import Arena, ConstantPool
from hyq_tvm.vta.codegen.moving import lower_concat, lower_pad, lower_view
from hyq_tvm.vta.codegen.norm import lower_group_norm, lower_layer_norm
from hyq_tvm.vta.codegen.pooling import lower_avg_pool2d, lower_max_pool2d
from hyq_tvm.vta.codegen.products import lower_dense, lower_matmul
from hyq_tvm.vta.codegen.source import Operation
from hyq_tvm.vta.codegen.stream import Stream
from hyq_tvm.vta.program import Place, Program
from hyq_tvm.vta.simulator import Run, Simulator

Rule = Callable[[Context, Operation], None]

RULES: dict[str, Rule] = {
    "conv2d": lower_conv2d,
    "dense": lower_dense,
    "matmul": lower_matmul,
    "identity": lower_identity,
    "add": lower_add,
    "multiply": lower_multiply,
    "reduce_sum": lower_reduce_sum,
    "avg_pool2d": lower_avg_pool2d,
    "max_pool2d": lower_max_pool2d,
    "layer_norm": lower_layer_norm,
    "group_norm": lower_group_norm,
    "softmax": lower_softmax,
    "attention": lower_attention,
    "view": lower_view,
    "concat": lower_concat,
    "pad": lower_pad,
}
"""Operators that run on the accelerator."""

HOST = ("quantize", "dequantize")
"""Float operators at the two ends, which the host computes."""


class RefusedOperationError(UnsupportedModelError):
    """An operator cannot run on the device. operation: which one."""

    def __init__(self, operation: Operation, reason: str) -> None:
        super().__init__(f"{operation.layer} ({operation.op}): {reason}")
        self.operation = operation


def compile_operations(
    operations: Sequence[Operation],
    outputs: Sequence[str],
    config: VTAConfig = DEFAULT,
    metadata: Mapping[str, Any] | None = None,
    choose: Choose = own,
) -> Program:
    """The program that computes ``operations``, in their order; names in ``outputs`` are kept.

    choose: about the tiles of each operation, as ``fold_views`` leaves it.
    Tensors that no operation makes are the program's inputs, of the shape and dtype of their first
    reader. Raises ``UnsupportedModelError`` naming all operators that have no rule.
    """
    missing = sorted({f"{o.op} ({o.layer})" for o in operations if o.op not in RULES})
    if missing:
        raise UnsupportedModelError(f"the accelerator has no rule for {', '.join(missing)}")
    operations = fold_views(operations, outputs)
    tensors = _tensors(operations, outputs)
    addresses, top = _plan(operations, tensors)
    pool = ConstantPool(top)
    stream = Stream(config, pool)
    context = Context(config, stream, pool, addresses)
    for operation in operations:
        stream.layer(operation.layer)
        context.choice = choose(operation)
        try:
            RULES[operation.op](context, operation)
        except UnsupportedModelError as error:
            raise RefusedOperationError(operation, str(error)) from error
    words = stream.words()
    image = pool.image
    places = {
        name: Place(addresses[name], shape, dtype, role)
        for name, (shape, dtype, role) in tensors.items()
    }
    return Program(
        config, words, image, top + len(image), places, stream.layers, metadata or {}, top
    )


Described = tuple[tuple[int, ...], str, str]


def _tensors(operations: Sequence[Operation], outputs: Sequence[str]) -> dict[str, Described]:
    """Name -> shape, dtype, role."""
    tensors: dict[str, Described] = {}
    for operation in operations:
        for argument in operation.arguments:
            value = argument.value
            if isinstance(value, str) and value not in tensors:
                tensors[value] = (argument.shape, argument.dtype, "input")
        for made in results(operation):
            role = "output" if made.name in outputs else "activation"
            tensors[made.name] = (made.shape, made.dtype, role)
    absent = [name for name in outputs if name not in tensors]
    if absent:
        raise UnsupportedModelError(f"no operation makes the outputs {absent}")
    return tensors


def _plan(
    operations: Sequence[Operation], tensors: Mapping[str, Described]
) -> tuple[dict[str, int], int]:
    """DRAM addresses; what is dead gives its bytes to later tensors."""
    last = {name: len(operations) for name, (_, _, role) in tensors.items() if role != "activation"}
    for index, operation in enumerate(operations):
        for argument in operation.arguments:
            if isinstance(argument.value, str):
                last[argument.value] = max(last.get(argument.value, 0), index)
    arena = Arena()
    addresses = {
        name: arena.allocate(_nbytes(tensors[name]))
        for name, (_, _, role) in tensors.items()
        if role == "input"
    }
    for index, operation in enumerate(operations):
        for made in results(operation):
            addresses[made.name] = arena.allocate(_nbytes(tensors[made.name]))
        for name in [n for n, end in last.items() if end == index]:
            arena.release(addresses[name])
    return addresses, arena.top


def _nbytes(described: Described) -> int:
    shape, dtype, _ = described
    return prod(shape) * np.dtype(dtype).itemsize


@dataclass(frozen=True)
class HostedProgram:
    """An accelerator program between the float operators that the host computes."""

    program: Program
    before: tuple[Operation, ...]
    after: tuple[Operation, ...]
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]

    def run(self, simulator: Simulator, *inputs: NDArray[Any]) -> tuple[list[NDArray[Any]], Run]:
        """Float inputs to float outputs, and what the simulator counted."""
        values: dict[str, NDArray[Any]] = dict(zip(self.inputs, inputs, strict=True))
        for operation in self.before:
            values[operation.name] = _evaluate(operation, values)
        places = self.program.places("input")
        fed = {name: values[name].reshape(place.shape) for name, place in places.items()}
        run = simulator.run(self.program, fed)
        values.update(run.outputs)
        for operation in self.after:
            values[operation.name] = _evaluate(operation, values)
        return [values[name].reshape(shape) for name, shape in self.outputs], run


def _evaluate(operation: Operation, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    arrays = []
    for argument in operation.arguments:
        value = argument.value
        array = values[value] if isinstance(value, str) else value
        arrays.append(array.reshape(argument.shape))
    return OPERATORS[operation.op](*arrays, **operation.params)


def compile_program(
    operations: Sequence[Operation],
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, tuple[int, ...]],
    config: VTAConfig = DEFAULT,
) -> HostedProgram:
    """A whole integer program; quantize and dequantize at its ends stay on the host.

    Raises ``UnsupportedModelError`` where a float operator stands between accelerator operators.
    """
    before = tuple(o for o in operations if o.op == "quantize")
    after = tuple(o for o in operations if o.op == "dequantize")
    middle = [o for o in operations if o.op not in HOST]
    inner = _inner_floats(operations)
    if inner:
        raise UnsupportedModelError(
            f"float computation inside the model does not run on this target: {', '.join(inner)}"
        )
    kept = [str(a.value) for o in after for a in o.arguments if isinstance(a.value, str)]
    names = {o.name for o in middle}
    wanted = [name for name in (*kept, *outputs) if name in names]
    program = compile_operations(middle, wanted, config)
    return HostedProgram(program, before, after, tuple(inputs), tuple(outputs.items()))


def _inner_floats(operations: Sequence[Operation]) -> list[str]:
    """The layers whose quantize reads what an earlier operation made."""
    made: set[str] = set()
    found = []
    for operation in operations:
        sources = {a.value for a in operation.arguments if isinstance(a.value, str)}
        if operation.op == "quantize" and sources & made:
            found.append(operation.layer)
        made.add(operation.name)
    return found
