"""Running programs on devices: one small protocol, and what implements it (docs/vta.md)."""

from hyq_tvm.vta.driver.calls import on_device
from hyq_tvm.vta.driver.mapped import MappedDevice, open_mapped
from hyq_tvm.vta.driver.protocol import Control, Device, Register, State
from hyq_tvm.vta.driver.session import Session
from hyq_tvm.vta.driver.simulated import SimulatedDevice

__all__ = [
    "Control",
    "Device",
    "MappedDevice",
    "Register",
    "Session",
    "SimulatedDevice",
    "State",
    "on_device",
    "open_mapped",
]
