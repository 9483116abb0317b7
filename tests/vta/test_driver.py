"""The device protocol: the same session on the simulator and on a loopback of a board."""

from __future__ import annotations

import mmap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from hyq_tvm.errors import DeviceProgramError, InputError
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.driver import Register, Session, SimulatedDevice, State, open_mapped
from hyq_tvm.vta.driver.protocol import (
    ID,
    REGISTERS,
    fault_table,
    program_address,
    register_table,
)
from hyq_tvm.vta.faults import FaultCode
from tests.vta.streams import TEXT, example_input, expected, program

WINDOW_BYTES = 1 << 16
BUS_ADDRESS = 0x1_4000_0000


class Loopback:
    """A board in a file: its first page holds the registers, the rest is the memory window.

    A thread plays the device: it watches CONTROL and lets a simulator do the work, with all
    knowledge taken from the registers and the memory of the file.
    """

    def __init__(self, path: Path, config=TINY, asleep: bool = False):
        path.write_bytes(bytes(mmap.PAGESIZE + WINDOW_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        everything = np.frombuffer(self._map, np.uint8)
        self.registers = everything[: 4 * len(REGISTERS)].view("<u4")
        self.memory = everything[mmap.PAGESIZE :]
        self._core = SimulatedDevice(config, WINDOW_BYTES)
        self._asleep, self._stop = asleep, threading.Event()
        self._publish()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _serve(self):
        while not self._stop.is_set():
            command = int(self.registers[Register.CONTROL // 4])
            if command:
                self._obey(command)
            time.sleep(1e-4)

    def _obey(self, command):
        starting = command == 1
        if starting:
            self.registers[Register.STATUS // 4] = State.RUNNING
            self.registers[Register.CONTROL // 4] = 0
            if self._asleep:
                return
            self._core.write_memory(0, self.memory)
            for register, access in REGISTERS.items():
                if access.writable and register is not Register.CONTROL:
                    self._core.write(register, int(self.registers[register // 4]))
        self._core.write(Register.CONTROL, command)
        if starting:
            self.memory[:] = self._core.read_memory(0, WINDOW_BYTES)
        self._publish()
        if not starting:
            self.registers[Register.CONTROL // 4] = 0

    def _publish(self):
        for register in sorted(REGISTERS, key=lambda r: r is Register.STATUS):
            if register is not Register.CONTROL:
                self.registers[register // 4] = self._core.read(register)


@pytest.fixture
def board(tmp_path):
    path = tmp_path / "board"
    with Loopback(path) as loopback, mapped(path) as device:
        yield loopback, device


def mapped(path):
    return open_mapped(
        path,
        registers=0,
        memory=mmap.PAGESIZE,
        memory_bytes=WINDOW_BYTES,
        memory_address=BUS_ADDRESS,
    )


def simulated(config=TINY):
    return SimulatedDevice(config)


def test_a_run_on_the_simulator():
    session = Session(simulated(), program())
    for x in (example_input(), -np.abs(example_input())):
        np.testing.assert_array_equal(session.run({"x": x})["y"], expected(x))


def test_a_run_on_a_board(board):
    loopback, device = board
    session = Session(device, program())
    for x in (example_input(), -np.abs(example_input())):
        np.testing.assert_array_equal(session.run({"x": x})["y"], expected(x))
    low, high = Register.MEMORY_LOW // 4, Register.MEMORY_HIGH // 4
    assert int(loopback.registers[high]) << 32 | int(loopback.registers[low]) == BUS_ADDRESS
    assert session.cycles == 0


def test_two_programs_take_turns_on_one_device():
    device = simulated()
    swapped = program(
        TEXT.replace("init ", "init inp_u8 ").replace("GEMM push", "GEMM inp_u8 push")
    )
    x = np.abs(example_input().astype(np.int16)).clip(0, 127).astype(np.int8)
    for made in (program(), swapped, program()):
        np.testing.assert_array_equal(Session(device, made).run({"x": x})["y"], expected(x))


@pytest.mark.parametrize("where", ["simulator", "board"])
def test_an_illegal_stream_ends_in_an_error_that_names_the_instruction(where, request):
    made = program(TEXT.replace("length=8 push_next", "length=8"))
    device = simulated() if where == "simulator" else request.getfixturevalue("board")[1]
    session = Session(device, made)
    with pytest.raises(DeviceProgramError, match=r"first: .*instruction 4.*(token|DEADLOCK)"):
        session.run({"x": example_input()})
    assert device.read(Register.STATUS) == State.FAULT
    assert device.read(Register.FAULT) == FaultCode.DEADLOCK
    good = Session(device, program())
    np.testing.assert_array_equal(good.run({"x": example_input()})["y"], expected(example_input()))


def test_a_board_that_does_not_answer_is_reset(tmp_path):
    path = tmp_path / "board"
    with Loopback(path, asleep=True), mapped(path) as device:
        session = Session(device, program(), timeout=0.05)
        with pytest.raises(DeviceProgramError, match="did not finish within"):
            session.run({"x": example_input()})


def test_a_device_of_another_configuration_is_refused():
    with pytest.raises(DeviceProgramError, match="compiled for device"):
        Session(simulated(DEFAULT), program())


@pytest.mark.parametrize(
    ("register", "value", "message"),
    [
        (Register.ID, 0, "ID is 0x00000000"),
        (Register.VERSION, 9, "instruction set 0 and protocol 9"),
        (Register.FINGERPRINT_LOW, 1, "compiled for device"),
    ],
)
def test_another_kind_of_device_is_refused(board, register, value, message):
    loopback, device = board
    loopback.registers[register // 4] = value
    with pytest.raises(DeviceProgramError, match=message):
        Session(device, program())


def test_a_window_that_is_too_small_is_refused(board):
    large = program()
    object.__setattr__(large, "dram_bytes", WINDOW_BYTES)
    with pytest.raises(DeviceProgramError, match="needs 65680 bytes of memory"):
        Session(board[1], large)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [({}, "are needed"), ({"x": example_input()[:4]}, "int8 .5, 8. is needed")],
)
def test_wrong_inputs_are_refused(inputs, message):
    with pytest.raises(InputError, match=message):
        Session(simulated(), program()).run(inputs)


def test_read_only_registers_and_unknown_commands_change_nothing():
    device = simulated()
    device.write(Register.ID, 5)
    device.write(Register.CONTROL, 77)
    assert device.read(Register.ID) == ID
    assert device.read(Register.STATUS) == State.IDLE


def test_a_start_without_a_program_is_a_fault():
    device = simulated()
    device.write(Register.CONTROL, 1)
    assert device.read(Register.STATUS) == State.FAULT
    assert device.read(Register.FAULT) == FaultCode.TRUNCATED
    device.write(Register.COUNT, 4)
    device.write(Register.CONTROL, 1)
    assert device.read(Register.FAULT) == FaultCode.RANGE


def test_stale_results_are_not_read_by_the_next_run():
    device = simulated()
    session = Session(device, program())
    session.run({"x": example_input()})
    reader = TEXT.replace(f"dram={112} y_size", f"dram={152} y_size")
    assert reader != TEXT
    with pytest.raises(DeviceProgramError, match="never written"):
        Session(device, program(reader)).run({"x": example_input()})


def test_files_that_cannot_be_mapped_are_named(tmp_path):
    with (
        pytest.raises(DeviceProgramError, match="absent"),
        open_mapped(tmp_path / "absent", registers=0, memory=0, memory_bytes=1),
    ):
        pass
    path = tmp_path / "short"
    path.write_bytes(bytes(mmap.PAGESIZE))
    with (
        pytest.raises(DeviceProgramError, match="cannot be mapped"),
        open_mapped(path, registers=0, memory=mmap.PAGESIZE, memory_bytes=1 << 20),
    ):
        pass


def test_accesses_beyond_the_window_are_refused(board):
    with pytest.raises(DeviceProgramError, match="outside the memory window"):
        board[1].read_memory(WINDOW_BYTES - 4, 5)


def test_registers_are_consecutive_words_and_the_guide_lists_them():
    offsets = [register.value for register in REGISTERS]
    assert offsets == list(range(0, 4 * len(REGISTERS), 4))
    guide = Path("docs/vta.md").read_text(encoding="utf-8")
    assert register_table() in guide
    assert fault_table() in guide


def test_programs_lie_behind_tensors():
    assert [program_address(n) for n in (0, 1, 64, 65)] == [0, 64, 64, 128]
