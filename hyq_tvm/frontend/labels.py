"""Bindings of an imported module get the names that people know: module paths, node names."""

from __future__ import annotations

import re
from typing import Any

import tvm
from tvm import relax


class Labels:
    """Remembers under which label each binding of a ``BlockBuilder`` was emitted.

    Set ``current`` before converting an operator. The builder's own names forbid dots and
    slashes, so the labels are put in place only when the module is complete (``apply``).
    """

    def __init__(self) -> None:
        self.current = ""
        self._of_binding: dict[str, str] = {}

    def watch(self, builder: Any) -> None:
        """Label what ``builder`` emits from now on."""
        emit = builder.emit

        def labelled(expr: Any, name_hint: str = "") -> Any:
            var = emit(expr, name_hint or re.sub(r"\W", "_", self.current))
            if self.current:
                self.adopt(builder, var)
            return var

        builder.emit = labelled

    def adopt(self, builder: Any, var: Any) -> None:
        """Label a binding that has no label, and those it was made with, of calls inside calls."""
        value = builder.lookup_binding(var)
        if value is None or var.name in self._of_binding:
            return
        self._of_binding[var.name] = self.current
        for argument in value.args if isinstance(value, relax.Call) else ():
            if isinstance(argument, relax.Var):
                self.adopt(builder, argument)

    def apply(self, mod: tvm.IRModule) -> tvm.IRModule:
        """``mod`` with the labels as the names of its bindings; one label may name several."""
        main = mod.get_global_var("main")
        mod.update_func(main, _Rename(mod, self._of_binding).visit_expr(mod["main"]))
        return mod


@relax.expr_functor.mutator
class _Rename(relax.PyExprMutator):
    """Gives variables new names; TVM's visitor looks these methods up by their names."""

    def __init__(self, mod: tvm.IRModule, names: dict[str, str]) -> None:
        super().__init__(mod)
        self.names = names

    def visit_dataflow_var_def_(self, var: relax.DataflowVar) -> relax.DataflowVar:
        return self._renamed(var, relax.DataflowVar)

    def visit_var_def_(self, var: relax.Var) -> relax.Var:
        return self._renamed(var, relax.Var)

    def _renamed(self, var: Any, kind: Any) -> Any:
        if var.name not in self.names:
            return var
        renamed = kind(self.names[var.name], var.ty)
        self.set_var_remap(var, renamed)
        return renamed
