"""The program under construction: instructions, and which grids of each tensor exist already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm.errors import PlanError
from hyq_tvm.quantization.graph import Graph, Node
from hyq_tvm.quantization.integer_program import Argument, Instruction, IntegerProgram
from hyq_tvm.quantization.lowering.grid import Grid, Value
from hyq_tvm.quantization.lowering.pending import Pending
from hyq_tvm.quantization.plan import WIDE, LayerPlan, QuantPlan

NARROW = ""
UNIFORM_BITS = 16
READS_WIDE = frozenset("add layer_norm group_norm reduce avg_pool2d softmax".split())
PASSES_THROUGH = frozenset({"view", "concat", "pad", "max_pool2d"})


class ProgramBuilder:
    """Turns graph values into instructions; rules see this object only.

    A tensor has up to two versions, ``NARROW`` and ``WIDE`` (docs/architecture.md). ``pending``
    holds operators that wait for their only reader to extend their epilogue.
    """

    def __init__(self, graph: Graph, plan: QuantPlan) -> None:
        self.graph = graph
        self.plan = plan
        self.consumers = graph.consumers()
        self.pending: dict[str, Pending] = {}
        self._instructions: list[Instruction] = []
        self._names: set[str] = set()
        self._values: dict[tuple[str, str], Value] = {}
        self._needs = self._find_needs()

    def layer(self, node: Node) -> LayerPlan:
        """The plan's decisions about a node (defaults where it has none)."""
        return self.plan.layers.get(node.name, LayerPlan(op=node.op))

    def bias(self, node: Node) -> NDArray[np.float64]:
        """The float bias with what the plan adds; raises ``PlanError`` when that does not fit."""
        bias = node.params["bias"].astype(np.float64)
        shift = self.layer(node).bias_shift
        if len(shift) not in (0, len(bias)):
            raise PlanError(
                f"layer {node.name!r}: bias_shift has {len(shift)} numbers for {len(bias)} channels"
            )
        return bias + np.asarray(shift) if shift else bias

    def has_grid(self, name: str, version: str) -> bool:
        """Whether the plan gives the tensor this version."""
        return name + version in self.plan.tensors

    def grid(self, name: str, version: str) -> Grid:
        """The planned grid; raises ``PlanError`` naming the tensor that the plan lacks."""
        if not self.has_grid(name, version):
            raise PlanError(f"the plan has no grid for tensor {name + version!r}")
        return Grid.of(self.plan.tensors[name + version])

    def target(self, name: str) -> str:
        """The version to make first: the wide one where anything wants it.

        A tensor that shares its wide grid with far larger ones may have a finer narrow one, which
        comes first then.
        """
        needs = self._needs[name]
        if needs >= {NARROW, WIDE}:
            narrow, wide = (self.grid(name, version).scale.max() for version in (NARROW, WIDE))
            return NARROW if narrow < wide else WIDE
        return WIDE if WIDE in needs or not self.has_grid(name, NARROW) else NARROW

    def needs(self, name: str) -> frozenset[str]:
        """The versions that readers want."""
        return self._needs[name]

    def emit(self, instruction: Instruction) -> str:
        """Append an instruction; its name is made unique."""
        name, count = instruction.name, 1
        while name in self._names:
            count += 1
            name = f"{instruction.name}.{count}"
        self._names.add(name)
        self._instructions.append(replace(instruction, name=name))
        return name

    def emit_pending(self, pending: Pending, name: str) -> Value:
        """Emit a finished epilogue; its value lies on the epilogue's last grid."""
        if pending.grid is None:
            raise ValueError(f"{pending.layer}: an accumulator has no grid yet")
        made = self.emit(pending.instruction(name))
        return Value(made, pending.shape, pending.grid)

    def put(self, name: str, version: str, value: Value) -> None:
        """Record a version of a graph tensor."""
        self._values[name, version] = value

    def finish(self, name: str, pending: Pending) -> None:
        """Emit ``pending`` as tensor ``name`` in the version wanted first."""
        version = self.target(name)
        grid = self.grid(name, version)
        self.put(name, version, self.emit_pending(pending.requantized(grid), name + version))

    def value(self, name: str, version: str) -> Value:
        """The tensor in ``version``, or in the other one where the plan has only that."""
        self.materialize(name)
        if (name, version) in self._values:
            return self._values[name, version]
        other = WIDE if version == NARROW else NARROW
        if not self.has_grid(name, version) or (name, other) not in self._values:
            return self._values[name, other]
        value = self.requantized(
            self._values[name, other], self.grid(name, version), name + version
        )
        self.put(name, version, value)
        return value

    def uniform(self, name: str, version: str) -> Value:
        """As ``value`` but with one scale for all channels, requantized to 16 bits if need be."""
        value = self.value(name, version)
        if value.grid.uniform:
            return value
        return self.requantized(value, value.grid.covering(UNIFORM_BITS), name + ":uniform")

    def operand(self, name: str) -> Value:
        """The narrow version as what a product with weights reads: int8 on any grid."""
        value = self.value(name, NARROW)
        if value.grid.dtype == "int8":
            return value
        planned = self.grid(name, NARROW) if self.has_grid(name, NARROW) else value.grid
        grid = planned if planned.dtype == "int8" else planned.covering(8)
        return self.requantized(value, grid, name + ":int8")

    def symmetric(self, name: str) -> Value:
        """The narrow version as an operand of a product of activations: 8 bits, zero point 0."""
        value = self.value(name, NARROW)
        grid = value.grid
        if grid.uniform and not grid.zero_point and grid.dtype in ("int8", "uint8"):
            return value
        return self.requantized(value, grid.covering(8), name + ":symmetric")

    def requantized(self, value: Value, grid: Grid, name: str) -> Value:
        """``value`` on another grid, by an identity operator with a requantize stage."""
        if value.grid.same(grid) and value.grid.dtype == grid.dtype:
            return value
        if not isinstance(value.source, str):
            reals = value.grid.scale * (value.source.astype(np.float64) - value.grid.zero_point)
            return Value(grid.quantize(reals), value.shape, grid)
        return self.emit_pending(self.identity(value, name).requantized(grid), name)

    def identity(self, value: Value, layer: str) -> Pending:
        """``value - zero_point`` as an accumulator."""
        shape = value.shape
        return Pending(
            layer=layer.removesuffix(WIDE),
            op="identity",
            arguments=(value.argument(),),
            params={"zero_point": value.grid.zero_point},
            raw_shape=shape,
            shape=shape,
            factor=value.grid.scale,
        )

    def materialize(self, name: str) -> None:
        """Emit a waiting operator on its own grid, because a reader could not extend it."""
        pending = self.pending.pop(name, None)
        if pending is not None:
            self._finish_waiting(name, pending)

    def _finish_waiting(self, name: str, pending: Pending) -> None:
        version = self.target(name)
        if pending.is_accumulator and self.has_grid(name, version):
            self.finish(name, pending)
            return
        if pending.is_accumulator:
            raise PlanError(f"the plan has no grid for tensor {name!r}")
        self.put(name, version, self.emit_pending(pending, name))

    def program(self, outputs: Mapping[str, str]) -> IntegerProgram:
        """The finished program; ``outputs`` maps graph outputs to instruction names."""
        used = {str(a.value) for ins in self._instructions for a in ins.tensor_arguments}
        kept = [i for i in self._instructions if i.name in used or i.name in outputs.values()]
        shapes = {made: self.graph[name].shape for name, made in outputs.items()}
        inputs = {node.name: node.shape for node in self.graph.inputs}
        return IntegerProgram(tuple(kept), inputs, shapes)

    def _find_needs(self) -> dict[str, frozenset[str]]:
        needs: dict[str, frozenset[str]] = {}
        for node in reversed(list(self.graph)):
            wanted: set[str] = set()
            if node.name in self.graph.outputs:
                wanted.add(WIDE)
            for reader in self.consumers[node.name]:
                if reader.op in PASSES_THROUGH:
                    wanted |= needs[reader.name]
                else:
                    wanted.add(WIDE if reader.op in READS_WIDE else NARROW)
            present = {v for v in wanted if self.has_grid(node.name, v)}
            missing = wanted - present
            if missing:
                present |= {v for v in (NARROW, WIDE) if self.has_grid(node.name, v)} - wanted
            needs[node.name] = frozenset(present)
        return needs


def constant_argument(array: Any, dtype: str) -> Argument:
    """A constant with the given storage type."""
    return Argument.constant(np.asarray(array, dtype=dtype))
