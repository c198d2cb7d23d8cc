"""Functions that are formulas of others: what stands in their place.

A formula over rows takes its arguments as they are. One over sets, such as LLM_AGG, takes
its first argument as the list of its values in a group. DISTINCT, ORDER BY, FILTER and OVER
belong to that list:

    LLM_AGG(body, 'task' ORDER BY day) FILTER (WHERE ok)
    LLM_REDUCE({'body': list(body ORDER BY day, body, to_json(body)) FILTER (WHERE ok)}, 'task')

The values themselves, and what the model sees of them, are the last keys of the order, so that
the same rows make the same list, however DuckDB comes upon them: it takes values for equal that
look different, such as 30 days and a month, or texts of a collation. DISTINCT is by both too,
or it would keep one or the other:

    LLM_AGG(DISTINCT body, 'task')
    LLM_REDUCE({'body': [llm_entry['value'] for llm_entry in entries]}, 'task')

where entries is

    list(DISTINCT {'value': body, 'text': to_json(body)} ORDER BY {'value': body, ...})

One to which order and repetition are no matter, such as LLM_FIRST, takes each value once:

    LLM_FIRST(body, 'criterion') FILTER (WHERE ok)
    entries[LLM_POSITION({'body': values}, 'criterion', 'first')].value

where entries and values are

    list_sort(list(DISTINCT {'text': to_json(body), 'value': body}) FILTER (WHERE ok))
    [llm_entry['value'] for llm_entry in entries]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from quackllm.errors import BindError
from quackllm.optimizer.sql import quote, text
from quackllm.udfs.base import OverSet
from quackllm.udfs.registry import Functions

Named = exp.PropertyEQ | exp.Kwarg


def written_out(node: exp.Anonymous, functions: Functions) -> str | None:
    """Return the SQL that a call of a formula stands for; None for another function.

    Of a formula over sets it stands for the whole of `extent`. Raises `BindError` for the
    wrong number of arguments, and for an ORDER BY that would mean nothing.
    """
    function = functions.get(node.name)
    if function is None or function.formula is None:
        return None
    call = _Aggregate.of(node) if function.over_set else _Aggregate(list(node.expressions))
    options = "".join(f", {text(part.copy())}" for part in call.arguments if _is_named(part))
    given = [part for part in call.arguments if not _is_named(part)]
    if len(given) != len(function.parameters):
        raise BindError(
            f"Binder Error: {node.name.upper()}: wrong number of arguments: {function.signature()}"
        )
    names = [parameter.name for parameter in function.parameters]
    parts = {name: text(part.copy()) for name, part in zip(names, given, strict=True)}
    if function.over_set is OverSet.LIST:
        parts[names[0]] = _struct(given[0], _list(node, given[0], call))
    elif function.over_set is OverSet.DISTINCT:
        if call.keys:
            raise BindError(
                f"Binder Error: {node.name.upper()}: ORDER BY inside has no meaning here; "
                "the order is that of the criterion"
            )
        parts["entries"] = entries = _entries(node, given[0])
        parts[names[0]] = _struct(given[0], _values(entries))
    else:
        parts = {name: part + options for name, part in parts.items()}
    return function.formula.format(**parts, options=options)


def _is_named(part: exp.Expr) -> bool:
    return isinstance(part, Named)


@dataclass(frozen=True)
class _Aggregate:
    """What stands in the parentheses of a call, DISTINCT and ORDER BY taken off."""

    arguments: Sequence[exp.Expr]
    keys: Sequence[exp.Expr] = ()
    distinct: bool = False

    @staticmethod
    def of(node: exp.Anonymous) -> _Aggregate:
        """Take the clauses of an aggregate off its arguments."""
        arguments, keys = list(node.expressions), []
        if arguments and isinstance(arguments[-1], exp.Order):
            keys = arguments[-1].expressions
            arguments[-1] = arguments[-1].this
        if arguments and isinstance(arguments[0], exp.Distinct):
            return _Aggregate([*arguments[0].expressions, *arguments[1:]], keys, distinct=True)
        return _Aggregate(arguments, keys)


def extent(node: exp.Expr) -> exp.Expr:
    """Return a call with the FILTER and the OVER that belong to it."""
    around = node.parent
    if isinstance(around, exp.Filter | exp.Window) and around.this is node:
        return extent(around)
    return node


def _list(node: exp.Anonymous, value: exp.Expr, call: _Aggregate) -> str:
    """Write the list of a group's values, in the order of the keys and then their own."""
    if call.distinct:
        return _values(_ordered_entries(node, value, call.keys))
    last = [exp.Ordered(this=each) for each in (value.copy(), _seen(value))]
    ordered = [*(key.copy() for key in call.keys), *last]
    return _in_place_of(node, exp.Order(this=value.copy(), expressions=ordered))


def _ordered_entries(node: exp.Anonymous, value: exp.Expr, keys: Sequence[exp.Expr]) -> str:
    """Write the list of a group's distinct values, each with its JSON text, in their order.

    DuckDB orders what is distinct by nothing but itself.
    """
    entry = _entry(value, ("value", "text"))
    ordered = [key.copy() for key in keys] or [exp.Ordered(this=value.copy())]
    for key in ordered:
        if key.this == value:
            key.set("this", entry.copy())
    distinct = exp.Distinct(expressions=[entry])
    return _in_place_of(node, exp.Order(this=distinct, expressions=ordered))


def _entries(node: exp.Anonymous, value: exp.Expr) -> str:
    """Write the list of a group's distinct values, each with its JSON text, in the order of it."""
    entry = _entry(value, ("text", "value"))
    return f"list_sort({_in_place_of(node, exp.Distinct(expressions=[entry]))})"


def _entry(value: exp.Expr, names: Sequence[str]) -> exp.Struct:
    """Write a struct of a value and its JSON text, in an order that sorts it."""
    return exp.Struct(
        expressions=[
            exp.PropertyEQ(
                this=exp.to_identifier(name, quoted=True),
                expression=value.copy() if name == "value" else _seen(value),
            )
            for name in names
        ]
    )


def _seen(value: exp.Expr) -> exp.Expr:
    """Write what the model sees of a value."""
    return exp.Anonymous(this="to_json", expressions=[value.copy()])


def _values(entries: str) -> str:
    """Write the list of the values of entries."""
    return f"[llm_entry['value'] for llm_entry in {entries}]"


def _in_place_of(node: exp.Anonymous, argument: exp.Expr) -> str:
    """Write list(argument) with the FILTER and the OVER of a call."""
    made: exp.Expr = exp.Anonymous(this="list", expressions=[argument])
    inner: exp.Expr = node
    while extent(inner) is not inner:
        around = inner.parent
        assert around is not None
        copied = around.copy()
        copied.set("this", made)
        made, inner = copied, around
    return text(made, copy=False)


def _struct(value: exp.Expr, values: str) -> str:
    """Write a struct of a list, named as its values are."""
    name = value.name if isinstance(value, exp.Column) and value.name else "values"
    return f"{{{quote(name)}: {values}}}"
