"""What the tests of faults need of the process that runs them."""

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Interrupts reach children: a shell starts background jobs that ignore them, children too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
