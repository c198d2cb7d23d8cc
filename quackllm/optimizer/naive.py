"""The naive form of a call: one registered scalar function, called once per row.

`llm_call(run, spec, field, ...)` takes the number of the running statement ('' for
the connection's defaults), the call's spec and the rendered fields, and returns the
canonical text of the answer. Whatever the planner leaves in a tree is written so.
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


def naive_call(run: str, spec: str, call: Call, fragments: Sequence[str]) -> str:
    """Write a call as SQL text; `fragments` are SQL texts of rendered fields."""
    arguments = ", ".join([literal(run), literal(spec), *fragments])
    return "(" + result_type(call.declaration).cast_sql(f"{FUNCTION}({arguments})") + ")"


def naive_text(tree: exp.Expr, calls: Mapping[str, Call], run: str, *, copy: bool = True) -> str:
    """Write a tree as SQL, its calls in naive form.

    copy: False for a tree that nobody reads again, which is then not kept whole.
    """
    holder = held(tree.copy() if copy else tree)
    for node in reversed(list(holder.find_all(ModelCall))):  # breadth first: inner ones last
        fragments = [json_fragment(text(part)) for part in node.expressions]
        node.replace(raw(naive_call(run, node.spec, calls[node.spec], fragments)))
    return text(holder.this, copy=False)
