"""Relax module -> canonical float graph."""

from __future__ import annotations

from typing import Any

from hyq_tvm.errors import UnsupportedModelError
from hyq_tvm.quantization.graph import Graph
from relay_passes.reading import arithmetic, layout, network
from relay_passes.reading.reader import Reader

HANDLERS = {**layout.HANDLERS, **arithmetic.HANDLERS, **network.HANDLERS}


def read_graph(mod: Any) -> Graph:
    """The raw graph of ``mod["main"]``, operator by operator, layout changes as imported."""
    if "main" not in [var.name_hint for var in mod.get_global_vars()]:
        raise UnsupportedModelError("the module has no function 'main'")
    return Reader(HANDLERS).read(mod["main"])


def extract_graph(mod: Any) -> Graph:
    """The canonical float graph of a Relax module (see hyq_tvm/quantization/graph.py)."""
    return read_graph(mod)
