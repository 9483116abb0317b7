"""Machines with random contents and random instructions, for comparing kernels."""

from __future__ import annotations

import numpy as np

from hyq_tvm.vta.arch import TINY, VTAConfig
from hyq_tvm.vta.isa import REGISTERS, Instruction, encode_uops, instruction
from hyq_tvm.vta.isa.encoding import check, decode, encode
from hyq_tvm.vta.isa.table import FUNCTIONS, IMMEDIATE_FUNCTIONS, STATISTICS
from hyq_tvm.vta.machine import Machine

DRAM_BYTES = 1 << 14


def random_machine(rng: np.random.Generator, config: VTAConfig = TINY) -> Machine:
    """All cells written, registers legal, micro-ops small; numbers of all magnitudes."""
    machine = Machine.create(config, DRAM_BYTES)
    for name, array in machine.memory.items():
        array.view(np.uint8)[...] = rng.integers(0, 256, array.view(np.uint8).shape)
        machine.written[name][:] = 1
    acc = machine.memory["acc"]
    acc >>= rng.integers(0, 31, (len(acc), 1), dtype=np.int32)
    machine.memory["acc"][::7, 2] &= 63
    uops = rng.integers(0, 16, (config.uop_entries, 3))
    machine.memory["uop"][:] = encode_uops([tuple(u) for u in uops.tolist()])
    for code, register in enumerate(REGISTERS):
        high = min(register.high, config.block) if register.name == "LANES" else register.high
        machine.registers[code] = random_number(rng, register.low, high)
    return machine


def random_number(rng: np.random.Generator, low: int, high: int) -> int:
    """Uniform, near an end, or of a random number of bits."""
    style = rng.integers(0, 4)
    if style == 0:
        return int(rng.integers(low, high, endpoint=True))
    if style == 1:
        return int(min(high, low + rng.integers(0, 3)))
    if style == 2:
        return int(max(low, high - rng.integers(0, 3)))
    size = int(rng.integers(0, 1 << int(rng.integers(0, 62)), endpoint=True))
    return int(min(max(size * int(rng.choice([-1, 1])), low), high))


def set_register(machine: Machine, **values: int) -> None:
    """Write registers by name."""
    codes = {register.name: code for code, register in enumerate(REGISTERS)}
    for name, value in values.items():
        machine.registers[codes[name]] = value


def loops(rng: np.random.Generator) -> dict[str, int]:
    """Small loop nests over few micro-ops."""
    begin = int(rng.integers(0, 4))
    fields = {"uop_begin": begin, "uop_end": begin + int(rng.integers(1, 5))}
    fields["iter_out"], fields["iter_in"] = (int(n) for n in rng.integers(1, 5, 2))
    for side in ("dst", "src"):
        fields[f"{side}_out"], fields[f"{side}_in"] = (int(n) for n in rng.integers(0, 5, 2))
    return fields


def random_gemm(rng: np.random.Generator) -> Instruction:
    """A product nest."""
    steps = {"wgt_out": int(rng.integers(0, 3)), "wgt_in": int(rng.integers(0, 3))}
    flags = {"init": int(rng.integers(0, 2)), "inp_u8": int(rng.integers(0, 2))}
    return instruction("GEMM", **loops(rng), **steps, **flags)


def random_vector(rng: np.random.Generator, op: str) -> Instruction:
    """A nest of one function, with any operand and target that it allows."""
    function = next(f for f in FUNCTIONS if f.name == op)
    steps = {"third_out": int(rng.integers(0, 3)), "third_in": int(rng.integers(0, 3))}
    operand = rng.choice(["ACC", "IMM", "PRM"]) if op in IMMEDIATE_FUNCTIONS else "ACC"
    free = function.kind != "binary" and op not in STATISTICS
    target = rng.choice(["ACC", "INP"]) if free else "ACC"
    return instruction(
        "VECTOR", op=op, operand=str(operand), target=str(target), **loops(rng), **steps
    )


def random_softmax(rng: np.random.Generator, exponential: str, result: str) -> Instruction:
    """Rows of 1 to 40 logits."""
    length = int(rng.integers(1, 41))
    blocks = -(-length // 4)
    return instruction(
        "SOFTMAX",
        exponential=exponential,
        result=result,
        target=str(rng.choice(["ACC", "INP"])),
        rows=int(rng.integers(1, 4)),
        length=length,
        src=int(rng.integers(0, 50)),
        src_step=blocks,
        dst=int(rng.integers(0, 60)),
        dst_step=blocks,
        plane=60,
        total=int(rng.integers(200, 300)),
    )


def random_transfer(rng: np.random.Generator, name: str, memory: str) -> Instruction:
    """A LOAD or STORE inside the buffers of TINY."""
    fields = {"y_size": int(rng.integers(1, 4)), "x_size": int(rng.integers(1, 6))}
    fields["length"] = int(rng.integers(1, 11)) * (4 if memory == "PRM" else 1)
    if memory == "PRM":
        fields.update(y_size=1, x_size=1)
    if name == "LOAD" and memory in ("INP", "ACC", "ACC8", "ACC16", "ACCU8"):
        for side in ("top", "bottom", "left", "right"):
            fields[f"pad_{side}"] = int(rng.integers(0, 3))
    dram = int(rng.integers(0, DRAM_BYTES // 2))
    return instruction(name, memory=memory, sram=int(rng.integers(0, 20)), dram=dram, **fields)


def row_of(made: Instruction) -> list[int]:
    """The decoded row of an instruction."""
    check(made)
    return decode(encode([made]))[0].tolist()
