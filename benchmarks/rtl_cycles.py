"""Cycles of the hardware against the cycle model, by kind of instruction and of whole programs.

``python -m benchmarks.rtl_cycles [models...]`` runs single instructions of every kind on the core
of the default architecture, each alone, and whole models; it prints the model's errors and writes
``rtl_cycles.json``. Every integer is compared with the functional simulator's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import vta_cycles
from hyq_tvm.vta.arch import DEFAULT, TINY, VTAConfig
from hyq_tvm.vta.cosim.core import Core, CoreRun
from hyq_tvm.vta.cycles import cost
from hyq_tvm.vta.isa import Instruction, encode, encode_uops, instruction
from hyq_tvm.vta.isa.encoding import decode
from hyq_tvm.vta.isa.table import ELEMENT_BYTES, FUNCTIONS, MEMORY, STORABLE
from hyq_tvm.vta.machine import Machine
from hyq_tvm.vta.profile import profile
from hyq_tvm.vta.program import Program
from hyq_tvm.vta.simulator import Simulator
from hyq_tvm.vta.timing import Timing, time_program

DRAM_BYTES = 1 << 18
STEPS = (1, 16, 200)
LENGTHS = (1, 40, 256)
ROWS = 4
LAYER_CYCLES = 2000
"""Layers that take less say little: where one ends and the next begins is a matter of taste."""


def single(config: VTAConfig) -> Iterator[tuple[str, Instruction]]:
    """``(kind, instruction)``: small, middling and large ones of every kind."""
    for steps in STEPS:
        nest = {"uop_begin": 0, "uop_end": 1, "iter_out": 1, "iter_in": steps, "dst_in": 1}
        yield "GEMM", instruction("GEMM", init=1, **nest)
        for function in FUNCTIONS:
            yield f"VECTOR {function.name}", instruction("VECTOR", op=function.name, **nest)
    for length in LENGTHS:
        for result in ("WEIGHT", "WEIGHT_WIDE", "UINT8", "LOG2", "GRID"):
            yield f"SOFTMAX {result}", _softmax(result, length, config.block)
        yield "SOFTMAX WEIGHT, INP", _softmax("WEIGHT", length, config.block, "INP")
    for choice in MEMORY.choices:
        for stretch in (1, 4):
            yield f"LOAD {choice.name}", _transfer("LOAD", choice.name, stretch, config.block)
    for name in STORABLE:
        for stretch in (1, 4):
            yield f"STORE {name}", _transfer("STORE", name, stretch, config.block)


def _softmax(result: str, length: int, block: int, target: str = "ACC") -> Instruction:
    blocks = -(-length // block)
    return instruction(
        "SOFTMAX",
        exponential="WEIGHTS" if result.startswith("WEIGHT") else "LINEAR_POT",
        result=result,
        target=target,
        rows=ROWS,
        length=length,
        src_step=blocks,
        dst=ROWS * blocks,
        dst_step=blocks,
        plane=ROWS * blocks,
        total=3 * ROWS * blocks,
    )


def _transfer(name: str, memory: str, stretch: int, block: int) -> Instruction:
    """Rows of runs that follow each other."""
    return instruction(
        name, memory=memory, y_size=1, x_size=2 * stretch, length=2 * block, dram=4096
    )


def measure(core: Core, made: Instruction) -> tuple[int, int]:
    """Cycles of an instruction alone: the hardware's, the model's."""
    stride = made["length"] * ELEMENT_BYTES[MEMORY.by_code[made["memory"]].name]
    registers = {"OFFSET": 31, "TABLE_SIZE": 256, "LANES": core.config.block}
    registers |= {"LOAD_X_STRIDE": stride, "STORE_X_STRIDE": stride}
    settings = [instruction("SET", register=k, value=v) for k, v in registers.items()]
    # Others would run beside it: it waits for the units whose registers are set, FINISH for it.
    flags = {"LOAD": ("push_next", "pop_prev"), "STORE": ("push_prev", "pop_next")}
    give, take = flags.get(made.name, ("", ""))
    made = Instruction(made.name, {**made.fields, **({give: 1} if give else {})})
    last = instruction("FINISH", **({take: 1} if take else {}))
    words = encode([*settings, made, last])
    rows = decode(words).tolist()
    event = core.execute(_machine(core.config), words, rows)[len(settings)]
    return event.end - event.start, cost(rows[len(settings)], (stride, stride), core.config)


def _machine(config: VTAConfig) -> Machine:
    machine = Machine.create(config, DRAM_BYTES)
    machine.memory["uop"][:1] = encode_uops([(256 if config.block > 4 else 100, 0, 0)])
    rng = np.random.default_rng(0)
    acc: NDArray[np.int32] = machine.memory["acc"]
    acc[:] = rng.integers(-500, 500, acc.shape)
    return machine


def errors(config: VTAConfig) -> dict[str, list[tuple[int, int]]]:
    """Kind -> (hardware, model) of its instructions."""
    core = Core(config)
    found: dict[str, list[tuple[int, int]]] = {}
    for kind, made in single(config):
        found.setdefault(kind, []).append(measure(core, made))
    return found


def whole(name: str, config: VTAConfig) -> dict[str, Any]:
    """A model of ``benchmarks.vta_cycles``: cycles and errors of layers that take long enough.

    Raises ``AssertionError`` where the core computes other integers than the simulator.
    """
    program = vta_cycles.measure(name, vta_cycles.quantized(name), config).program
    inputs = vta_cycles.random_inputs(program)
    expected = Simulator(config).run(program, inputs).outputs
    run = Core(config).run(program, inputs)
    for key, value in expected.items():
        np.testing.assert_array_equal(run.outputs[key], value)
    return {"model": name, **compared(program, timing(run, config), time_program(program))}


def timing(run: CoreRun, config: VTAConfig) -> Timing:
    """A run of the hardware, from when its first instruction has come on."""
    first = min(event.start for event in run.events)
    events = [replace(e, start=e.start - first, end=e.end - first) for e in run.events]
    return Timing(run.cycles - first, 0, config.clock_mhz, tuple(events))


def compared(program: Program, hardware: Timing, model: Timing) -> dict[str, Any]:
    """Whole cycles, and the model's errors layer by layer."""
    pairs = [
        (ours.name, ours.cycles / theirs.cycles - 1, theirs.cycles)
        for ours, theirs in zip(profile(program, model), profile(program, hardware), strict=True)
        if theirs.cycles >= LAYER_CYCLES
    ]
    worst = max(pairs, key=lambda pair: abs(pair[1]))
    weights = sum(cycles for _, _, cycles in pairs)
    return {
        "hardware_cycles": hardware.cycles,
        "model_cycles": model.cycles,
        "error": round(model.cycles / hardware.cycles - 1, 6),
        "milliseconds": round(hardware.milliseconds, 2),
        "layers": len(pairs),
        "within_5_percent": sum(abs(error) <= 0.05 for _, error, _ in pairs),
        "mean_layer_error": round(sum(abs(e) * cycles for _, e, cycles in pairs) / weights, 6),
        "worst_layer": {"name": worst[0], "error": round(worst[1], 4), "cycles": worst[2]},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables and write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rtl_cycles", description=__doc__.splitlines()[0]
    )
    parser.add_argument("models", nargs="*", help=f"of {list(vta_cycles.MODELS)}")
    parser.add_argument("--tiny", action="store_true", help="the small architecture")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args(arguments)
    config = TINY if options.tiny else DEFAULT
    print("| instruction | hardware | model | largest error |\n|---|---|---|---|")
    kinds = errors(config)
    for kind, pairs in kinds.items():
        worst = max(pairs, key=lambda pair: abs(pair[1] / pair[0] - 1))
        hardware, model = (", ".join(str(pair[i]) for pair in pairs) for i in (0, 1))
        print(f"| {kind} | {hardware} | {model} | {100 * (worst[1] / worst[0] - 1):+.1f} % |")
    models = [whole(name, config) for name in options.models]
    for row in models:
        print(json.dumps(row))
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"kinds": kinds, "models": models}, indent=1)
    options.out.joinpath("rtl_cycles.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
