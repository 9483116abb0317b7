"""Small float modules whose layers are scaled."""

from __future__ import annotations

import numpy as np
from tvm import relax

ALPHA = np.array([1.0, 2.0, 0.5, 4.0], np.float32)
SHAPE = (2, 3, 5, 5)


def build(body, shape=SHAPE):
    """``main`` of one input returns ``body(builder, x)``."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(body(builder, x))
        builder.emit_func_output(result)
    return builder.finalize()
