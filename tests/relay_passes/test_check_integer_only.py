"""Floats inside of an integer module are found, behind reshapes and aliases too."""

from __future__ import annotations

import json

import pytest
import tvm
from tvm import relax

from hyq_tvm.errors import FloatComputationError
from hyq_tvm.topi import prim_func
from relay_passes.check_integer_only import check_integer_only
from relay_passes.quantize_graph import LAYERS_ATTRIBUTE
from tests.integer_modules import DEQUANTIZE, QUANTIZE

R = relax.op
SHAPE = (4, 8)


class Writer:
    """Writes ``main`` of one float input, binding after binding."""

    def __init__(self):
        self.builder = relax.BlockBuilder()

    def call(self, op, value, name):
        """``quantize`` or ``dequantize``."""
        params, dtype = (QUANTIZE, "int8") if op == "quantize" else (DEQUANTIZE, "float32")
        shape = [int(n) for n in value.ty.shape]
        function = prim_func(op, params, [(shape, str(value.ty.dtype))])
        reference = self.builder.add_func(function.without_attr("global_symbol"), op)
        output = relax.TensorType(shape, dtype)
        return self.emit(relax.call_tir(reference, relax.Tuple([value]), output), name)

    def emit(self, value, name):
        return self.builder.emit(value, name)

    def module(self, write, layers=None):
        x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
        with self.builder.function("main", [x]):
            self.builder.emit_func_output(write(self, x))
        labels = {name: (name, layer) for name, layer in (layers or {}).items()}
        return self.builder.finalize().with_attrs({LAYERS_ATTRIBUTE: json.dumps(labels)})


def refused(write, layers=None):
    """What the message lists."""
    with pytest.raises(FloatComputationError) as caught:
        check_integer_only(Writer().module(write, layers))
    message = str(caught.value)
    start, end = "layer(s): ", ". Pass allow_float=[names] to accept it"
    assert message.endswith(end)
    found = message[message.index(start) + len(start) : -len(end)].split("; ")
    assert message.startswith(f"float computation in {len(found)} layer(s): ")
    return found


def test_conversions_at_both_ends_are_allowed():
    def write(w, x):
        real = w.call("dequantize", w.call("quantize", x, "q"), "d")
        return w.emit(R.reshape(real, (8, 4)), "seen")

    assert check_integer_only(Writer().module(write)) == []


def test_an_output_may_be_dequantized_twice():
    def write(w, x):
        q = w.call("quantize", x, "q")
        return relax.Tuple([w.call("dequantize", q, "a"), w.call("dequantize", q, "b")])

    assert check_integer_only(Writer().module(write)) == []


@pytest.mark.parametrize("seen", ["plain", "reshaped", "alias", "both"])
def test_a_float_that_is_read_inside_is_found(seen):
    def write(w, x):
        real = w.call("dequantize", w.call("quantize", x, "q"), "d")
        if seen in ("reshaped", "both"):
            real = w.emit(R.reshape(real, (8, 4)), "r")
        if seen in ("alias", "both"):
            real = w.emit(real, "same")
        return w.emit(R.nn.relu(real), "act")

    assert refused(write) == ["d (float result read inside the graph)", "act (relax.nn.relu)"]


def test_a_float_that_is_an_output_too_is_found():
    def write(w, x):
        real = w.call("dequantize", w.call("quantize", x, "q"), "d")
        again = w.call("dequantize", w.call("quantize", real, "again"), "e")
        return relax.Tuple([real, again])

    assert refused(write) == [
        "d (float result read inside the graph)",
        "again (reads a float of the graph)",
    ]


def test_operators_on_integers_are_allowed():
    def write(w, x):
        q = w.call("quantize", x, "q")
        return w.call("dequantize", w.emit(R.add(q, q), "sum"), "d")

    assert check_integer_only(Writer().module(write)) == []


def test_operators_that_read_several_tensors():
    def write(w, x):
        q = w.call("quantize", x, "q")
        a, b = w.call("dequantize", q, "a"), w.call("dequantize", q, "b")
        return w.emit(R.add(a, b), "sum")

    inside = "float result read inside the graph"
    assert refused(write) == [f"a ({inside})", f"b ({inside})", "sum (relax.add)"]


def test_layers_are_named_and_allowed_by_name():
    def write(w, x):
        real = w.call("dequantize", w.call("quantize", x, "q"), "d")
        return w.emit(R.nn.relu(w.emit(R.exp(real), "on_the_way")), "act")

    layers = {"q": "x", "d": "first", "act": "second"}
    assert refused(write, layers) == [
        "first (float result read inside the graph)",
        "second (relax.exp)",
    ]
    mod = Writer().module(write, layers)
    assert check_integer_only(mod, ["second", "first"]) == ["first", "second"]
    with pytest.raises(FloatComputationError, match=r"in 1 layer\(s\): first "):
        check_integer_only(mod, ["second"])


def test_functions_without_a_mark_are_named():
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit_te(tvm.topi.exp, x, primfunc_name_hint="plain"))
    with pytest.raises(FloatComputationError, match=r"gv \(function plain\)"):
        check_integer_only(builder.finalize())


def test_integer_functions_without_a_mark_are_allowed():
    def write(w, x):
        q = w.call("quantize", x, "q")
        return w.call("dequantize", w.builder.emit_te(lambda t: tvm.topi.add(t, t), q), "d")

    assert check_integer_only(Writer().module(write)) == []
