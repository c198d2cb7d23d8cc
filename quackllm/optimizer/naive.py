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

from quackllm.optimizer.sql import ModelCall, held, json_fragment, literal, raw, text
from quackllm.udfs.base import Call
from quackllm.udfs.type_parser import result_type

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


def naive_text(tree: exp.Expr, calls: Mapping[str, Call], run: str, *, copy: bool = True) -> str:
    """Write a tree as SQL, its calls in naive form.

    copy: False for a tree that nobody reads again, which is then not kept whole.
    """
    holder = held(tree.copy() if copy else tree)
    for node in reversed(list(holder.find_all(ModelCall))):  # breadth first: inner ones last
        fragments = [json_fragment(text(part)) for part in node.expressions]
        call = calls[node.spec]
        window = None if call.declaration.joint is None else window_of(node)
        written = raw(naive_call(run, node.spec, call, fragments, window))
        (node if window is None else window).replace(written)
    return text(holder.this, copy=False)
