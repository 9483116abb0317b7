"""Why a stream is stopped: the codes that devices report, and the error with the instruction."""

from __future__ import annotations

from enum import IntEnum

from hyq_tvm.errors import DeviceProgramError


class FaultCode(IntEnum):
    """What the device register FAULT holds."""

    NONE = 0
    ILLEGAL = 1
    RANGE = 2
    UNWRITTEN = 3
    DEADLOCK = 4
    TOKENS = 5
    VALUE = 6
    TRUNCATED = 7
    BUS = 8


FAULT_MEANINGS: dict[FaultCode, str] = {
    FaultCode.NONE: "no fault",
    FaultCode.ILLEGAL: "an opcode or a field has no meaning",
    FaultCode.RANGE: "an address is beyond a buffer or the memory window",
    FaultCode.UNWRITTEN: "a cell is read that nobody wrote (simulators only)",
    FaultCode.DEADLOCK: "the units wait for tokens that nobody gives",
    FaultCode.TOKENS: "FINISH came while units were busy or tokens were left",
    FaultCode.VALUE: "a number is outside what an instruction can compute with",
    FaultCode.TRUNCATED: "the instructions ended without FINISH",
    FaultCode.BUS: "the memory port answered with an error",
}


class StreamError(DeviceProgramError):
    """An instruction stream is not legal. code: why. index: which instruction, from 0."""

    def __init__(self, message: str, code: FaultCode, index: int) -> None:
        super().__init__(message)
        self.code = code
        self.index = index
