"""What is legal in a statement and hardly meant: the person is told before it is paid for.

Every row has an answer all the same, so that nothing else shows the mistake: a prompt and
its data in each other's place, the name of a column as a text, a comparison with a label that
is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp

from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import in_scope, rows_of, visible_ctes
from quackllm.optimizer.sql import ModelCall, find_all, text
from quackllm.udfs.base import Call, Choice, Function, Kind
from quackllm.udfs.options import shown
from quackllm.udfs.prompt import did_you_mean
from quackllm.udfs.registry import Functions

Columns = Callable[[exp.Query], tuple[tuple[str, str], ...] | None]
"""Names and types of a query's output, None when it does not bind."""

LABELS_SHOWN = 8

SHORT = 200
"""Characters of a text that may be an instruction; longer ones are data."""


def doubts(plan: Plan, functions: Functions, columns: Columns) -> Iterator[str]:
    """Say what is doubtful about a plan that no rule has changed yet, a line for each."""
    for node in find_all(plan.root, ModelCall):
        call = plan.calls[node.spec]
        function = functions.get(call.function)
        if function is None or not call.fields:
            continue
        data = dict(zip(call.fields, node.expressions, strict=True))
        yield from _swapped(function, data)
        for value in data.values():
            if isinstance(value, exp.Literal) and value.is_string:
                yield from _quoted_column(function, value.this, node, columns)
    yield from _no_labels(plan, columns)


def _swapped(function: Function, data: dict[str, exp.Expr]) -> Iterator[str]:
    """Doubt a prompt of each row that comes with the same short texts for all rows."""
    prompt = next((each.name for each in function.parameters if each.kind is Kind.PROMPT), "")
    rest = [value for name, value in data.items() if name != prompt]
    if not rest or not isinstance(data.get(prompt), exp.Column) or not all(map(_is_said, rest)):
        return
    yield (
        f"{function.name.upper()}: {prompt} is {text(data[prompt].copy())}, another one for each "
        f"row, and the data is {', '.join(text(value.copy()) for value in rest)}, the same for all "
        f"rows. Are they in each other's place? {function.signature()}"
    )


def _is_said(node: exp.Expr) -> bool:
    """Whether an expression is a text as a person writes it in a prompt."""
    return isinstance(node, exp.Literal) and node.is_string and len(node.this) < SHORT


def _quoted_column(
    function: Function, value: str, node: exp.Expr, columns: Columns
) -> Iterator[str]:
    """Doubt a text that is the name of a column of the rows that a call is about."""
    select = node.find_ancestor(exp.Select)
    if select is None or select.args.get("from_") is None or not value.isidentifier():
        return
    known = columns(in_scope(select, rows_of(select, [exp.Star()]))) or ()
    name = next((name for name, _ in known if name.casefold() == value.casefold()), None)
    if name is not None:
        yield (
            f"{function.name.upper()} is asked about the text '{value}', the same for each row. "
            f"The column is written without quotes: {name}"
        )


def _no_labels(plan: Plan, columns: Columns) -> Iterator[str]:
    """Doubt the comparison of a label with a text that is none of its labels."""
    named = _named_calls(plan)
    for answer, other in _comparisons(plan.root):
        call = plan.calls[answer.spec] if isinstance(answer, ModelCall) else None
        if isinstance(answer, exp.Column):
            call = named.get(answer.name.casefold())
        if call is None or not isinstance(other, exp.Literal) or not other.is_string:
            continue
        labels = _labels(call)
        if not labels or other.this in (*labels, call.default):
            continue
        if isinstance(answer, exp.Column) and _is_stored(answer.name, plan, columns):
            continue
        listed = ", ".join(map(shown, labels[:LABELS_SHOWN]))
        more = ", ..." if len(labels) > LABELS_SHOWN else ""
        yield (
            f"{call.function.upper()} answers one of {listed}{more}, and is compared with "
            f"{shown(other.this)}, which it never is{did_you_mean(other.this, labels)}"
        )


def _comparisons(root: exp.Expr) -> Iterator[tuple[exp.Expr, exp.Expr]]:
    """List what is compared with what by =, <>, IN and CASE ... WHEN, both ways round."""
    for node in find_all(root, exp.EQ, exp.NEQ, exp.In, exp.Case):
        if isinstance(node, exp.In):
            pairs = [(node.this, other) for other in node.expressions]
        elif isinstance(node, exp.Case):
            pairs = [(node.this, branch.this) for branch in node.args["ifs"] if node.this]
        else:
            pairs = [(node.this, node.expression), (node.expression, node.this)]
        yield from pairs


def _labels(call: Call) -> tuple[str, ...]:
    """Return the labels of which a call gives one, as a text; () for another call."""
    answer = call.declaration.answer
    is_text = call.declaration.returns == "VARCHAR"
    return answer.labels if isinstance(answer, Choice) and is_text else ()


def _named_calls(plan: Plan) -> dict[str, Call]:
    """Return the calls that items of a SELECT are and are named by, of one meaning each."""
    found: dict[str, Call | None] = {}
    for item in find_all(plan.root, exp.Alias):
        call = plan.calls[item.this.spec] if isinstance(item.this, ModelCall) else None
        name = item.alias.casefold()
        found[name] = call if found.get(name, call) == call else None
    return {name: call for name, call in found.items() if call is not None}


def _is_stored(name: str, plan: Plan, columns: Columns) -> bool:
    """Whether a table that a statement reads may have a column of a name."""
    for table in find_all(plan.root, exp.Table):
        found = columns(in_scope(table, exp.select("*").from_(table.copy())))
        stored = table.name and not _is_cte(table)
        if stored and any(each.casefold() == name.casefold() for each, _ in found or ()):
            return True
    return False


def _is_cte(table: exp.Table) -> bool:
    """Whether a name may be that of a CTE: a WITH around it defines one of that name."""
    names = {cte.alias.casefold() for _, ctes in visible_ctes(table) for cte in ctes}
    return table.name.casefold() in names
