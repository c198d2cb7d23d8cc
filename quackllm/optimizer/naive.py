"""The naive form of a call: one registered scalar function, called once per row.

`llm_call(run, spec, field, ...)` takes the number of the running statement ('' for
the connection's defaults), the call's spec and the rendered fields, and returns the
canonical text of the answer. Whatever the planner leaves in a tree is written so.

A joint call gets one argument more: all rows that it is about, which a window collects. So
DuckDB itself says where it may stand, and which rows those are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from quackllm.optimizer.sql import ModelCall, find_all, held, json_fragment, literal, raw, text
from quackllm.udfs.base import Call
from quackllm.udfs.nested_types import ListType, StructType
from quackllm.udfs.type_parser import result_type
from quackllm.udfs.types import SqlType

FUNCTION = "llm_call"

BINDING = "bind"
"""In the place of a statement's number: DuckDB only binds; it may evaluate a call whose
arguments are constants all the same, and then gets a value without a call of the model."""


def naive_call(
    run: str, spec: str, call: Call, fragments: Sequence[str], window: exp.Window | None = None
) -> str:
    """Write a call as SQL text; `fragments` are SQL texts of rendered fields.

    window: of a joint call the one that it is written with, OVER () where there is none.
    """
    given = [literal(run), literal(spec), *fragments]
    if call.declaration.joint is not None:
        given.append(members(fragments, window))
    arguments = ", ".join(given)
    return "(" + result_type(call.declaration).cast_sql(f"{FUNCTION}({arguments})") + ")"


def members(fragments: Sequence[str], window: exp.Window | None) -> str:
    """Write the rows of a window as a JSON array: of each distinct row the rendered fields."""
    over = exp.Window() if window is None else window.copy()
    over.set("this", raw(f"list(DISTINCT [{', '.join(fragments)}])"))
    return f"CAST(to_json({text(over)}) AS VARCHAR)"


def window_of(node: exp.Expr) -> exp.Window | None:
    """Return the window whose function a call is; None for a call without OVER."""
    above = node.parent
    return above if isinstance(above, exp.Window) and above.this is node else None


def of_all_rows(window: exp.Window) -> bool:
    """Whether a window is OVER (): every row sees all of them."""
    return not any(value for name, value in window.args.items() if name not in ("this", "over"))


def is_joint(node: exp.Expr) -> bool:
    """Whether a node is a call about all rows of its SELECT."""
    window = window_of(node) if isinstance(node, ModelCall) else None
    return window is not None and of_all_rows(window)


def naive_text(tree: exp.Expr, calls: Mapping[str, Call], run: str, *, copy: bool = True) -> str:
    """Write a tree as SQL, its calls in naive form.

    copy: False for a tree that nobody reads again, which is then not kept whole.
    """
    holder = held(tree.copy() if copy else tree)
    for node in reversed(list(find_all(holder, ModelCall))):  # breadth first: inner ones last
        call = calls[node.spec]
        fragments = [json_fragment(text(part)) for part in node.expressions]
        window = None if call.declaration.joint is None else window_of(node)
        written = raw(naive_call(run, node.spec, call, fragments, window))
        whole = node if window is None else window
        _declare_parts(whole, result_type(call.declaration))
        whole.replace(written)
    return text(holder.this, copy=False)


def _declare_parts(call: exp.Expr, returns: SqlType) -> None:
    """Cast what is read of a call's answer to its declared type, in place.

    DuckDB evaluates a call over constants as it binds. A field or an item of an answer that is
    NULL, such as that of a failed call, then has the type "NULL" (INTEGER in DuckDB 1.x), and
    so would a column of a table.
    """
    node, read, declared = call, None, returns
    while node.parent is not None:
        above = node.parent
        if not isinstance(above, exp.Paren):
            inner = _read_by(above, node, declared)
            if inner is None:
                break
            read, declared = above, inner
        node = above
    if read is not None:
        cast = exp.Cast(to=raw(declared.to_duckdb()))
        read.replace(cast)
        cast.set("this", read)


def _read_by(node: exp.Expr, answer: exp.Expr, returns: SqlType) -> SqlType | None:
    """The type of what a node reads of an answer, if that is a field or an item of a list."""
    if isinstance(node, exp.Dot) and node.this is answer and isinstance(returns, StructType):
        name = node.expression.name.lower()
        return next((each.type for each in returns.fields if each.name.lower() == name), None)
    if isinstance(node, exp.Bracket) and node.this is answer and isinstance(returns, ListType):
        return None if node.find(exp.Slice) else returns.item
    return None
