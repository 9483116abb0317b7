"""The integer program: what every backend computes, as a list of instructions on plain arrays.

An instruction names an operator of docs/numerics.md, its parameters and its arguments. Running a
program with the NumPy operators is the golden model; lowering it to Relax is a relabelling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import FloatComputationError
from hyq_tvm.numerics import OPERATORS

Array = NDArray[Any]
Tap = Callable[[str, Array], None]


@dataclass(frozen=True, eq=False)
class Argument:
    """A tensor by name, or a constant, seen with ``shape`` (as many elements as it has)."""

    value: str | Array
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def constant(cls, array: Array) -> Argument:
        """An argument that is part of the program."""
        return cls(array, array.shape, str(array.dtype))


@dataclass(frozen=True, eq=False)
class Instruction:
    """``name = op(*arguments, **params)``, a tensor of ``shape`` and ``dtype``.

    layer: the graph node it belongs to. shape: as the operator makes it; a reader may see it
    under another shape of as many elements.
    """

    name: str
    op: str
    arguments: tuple[Argument, ...]
    params: Mapping[str, Any]
    shape: tuple[int, ...]
    dtype: str
    layer: str

    @property
    def tensor_arguments(self) -> tuple[Argument, ...]:
        """The arguments that other instructions make."""
        return tuple(a for a in self.arguments if isinstance(a.value, str))

    @property
    def constants(self) -> tuple[Array, ...]:
        """The arguments that are part of the program."""
        return tuple(a.value for a in self.arguments if not isinstance(a.value, str))


@dataclass(frozen=True, eq=False)
class IntegerProgram:
    """Instructions in order. inputs and outputs: tensor name -> shape (inputs are float32)."""

    instructions: tuple[Instruction, ...]
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Instruction]:
        return iter(self.instructions)

    @property
    def constant_bytes(self) -> int:
        """Bytes of weights, biases, multipliers and tables, each array counted once."""
        arrays = {id(c): c.nbytes for ins in self for c in ins.constants}
        return sum(arrays.values())

    def run(self, *inputs: Array, tap: Tap | None = None) -> list[Array]:
        """The golden model: float32 inputs of the traced shapes to float32 outputs, in NumPy.

        tap: called with the name and value of every tensor, in order.
        """
        values = self._evaluate(inputs, tap)
        return [values[name].reshape(shape) for name, shape in self.outputs.items()]

    def run_integers(self, *inputs: Array) -> list[Array]:
        """The integers that the last ``dequantize`` of each output reads."""
        values = self._evaluate(inputs, None, keep=True)
        by_name = {ins.name: ins for ins in self}
        raw = []
        for name, shape in self.outputs.items():
            source = by_name[name].tensor_arguments[0].value
            raw.append(values[str(source)].reshape(shape))
        return raw

    def _evaluate(
        self, inputs: Sequence[Array], tap: Tap | None, *, keep: bool = False
    ) -> dict[str, Array]:
        values: dict[str, Array] = dict(zip(self.inputs, inputs, strict=True))
        last_use = self._last_use()
        for index, ins in enumerate(self):
            if ins.op not in OPERATORS:
                raise FloatComputationError(f"{ins.layer}: {ins.op} has no integer definition")
            arguments = [self._load(a, values) for a in ins.arguments]
            result = OPERATORS[ins.op](*arguments, **ins.params)
            if result.shape != ins.shape or str(result.dtype) != ins.dtype:
                raise AssertionError(f"{ins.name}: {result.shape} {result.dtype}, not as declared")
            values[ins.name] = result
            if tap is not None:
                tap(ins.name, result)
            if not keep:
                for name in last_use.get(index, ()):
                    del values[name]
        return values

    def _last_use(self) -> dict[int, list[str]]:
        last: dict[str, int] = {}
        for index, ins in enumerate(self):
            for argument in ins.tensor_arguments:
                last[str(argument.value)] = index
        dead: dict[int, list[str]] = {}
        for name, index in last.items():
            if name not in self.outputs and name not in self.inputs:
                dead.setdefault(index, []).append(name)
        return dead

    @staticmethod
    def _load(argument: Argument, values: Mapping[str, Array]) -> Array:
        value = argument.value
        array = values[value] if isinstance(value, str) else value
        return np.ascontiguousarray(array).reshape(argument.shape)
