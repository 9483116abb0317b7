"""The comparison of TE operators with the golden model, many cases to one compilation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray

from hyq_tvm import numerics, topi

Case = tuple[str, Mapping[str, Any], Sequence[NDArray[Any]]]


def build(cases: Mapping[str, Case]) -> Any:
    """One llvm module with a function a case."""
    functions = {}
    for number, (op, params, arrays) in enumerate(cases.values()):
        function = topi.prim_func(op, params, [(a.shape, str(a.dtype)) for a in arrays])
        functions[f"f{number}"] = function.with_attr("global_symbol", f"f{number}")
    return tvm.compile(tvm.IRModule(functions), target="llvm")


def compare(module: Any, cases: Mapping[str, Case]) -> None:
    """Every case of a built module equals the golden model, integer for integer."""
    for number, (name, (op, params, arrays)) in enumerate(cases.items()):
        expected = numerics.OPERATORS[op](*arrays, **params)
        out = tvm.runtime.empty(expected.shape, str(expected.dtype))
        module[f"f{number}"](*[tvm.runtime.tensor(np.ascontiguousarray(a)) for a in arrays], out)
        np.testing.assert_array_equal(out.numpy(), expected, err_msg=name, strict=True)


@pytest.fixture(scope="session")
def build_twins() -> Callable[[Mapping[str, Case]], Any]:
    """``build``."""
    return build


@pytest.fixture(scope="session")
def compare_twins() -> Callable[[Any, Mapping[str, Case]], None]:
    """``compare``."""
    return compare


@pytest.fixture(scope="session")
def assert_twins() -> Callable[[Mapping[str, Case]], None]:
    """Builds all cases at once and compares each with the golden model."""

    def check(cases: Mapping[str, Case]) -> None:
        compare(build(cases), cases)

    return check


@pytest.fixture(scope="session")
def float_dtypes() -> Callable[[Any], set[str]]:
    """The float types that occur in a PrimFunc: in its buffers, constants, casts and calls."""

    def find(function: Any) -> set[str]:
        return set(re.findall(r"\bb?float\d+\w*", function.script(show_meta=True)))

    return find
