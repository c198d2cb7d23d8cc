"""SQL that says which rows of a block are certain while it is asked in rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from quackllm.optimizer.plan import BLOCK, MATERIALIZE
from quackllm.optimizer.scope import rows_of
from quackllm.optimizer.sql import conjunction, has_calls, raw


@dataclass(frozen=True)
class RowsSoFar:
    """The rows of a block, with the answers that there are joined to them.

    answered: the block with its answers; of it only FROM and WHERE matter, and WHERE
        leaves out rows that are not decided.
    decided: SQL, whether a row's first call is answered or never to be asked.
    counts: conditions beside WHERE that a row has to fulfil to be one of those wanted.
    write: writes a condition as SQL, also one with calls that are not staged.
    """

    answered: exp.Select
    decided: str
    counts: Sequence[exp.Expr]
    write: Callable[[exp.Expr], str]

    def _passes(self) -> str:
        where = self.answered.args.get("where")
        whole = conjunction([*([where.this] if where else []), *self.counts])
        return self.write(whole or exp.true())

    def count(self, enough: int) -> exp.Select:
        """Count the rows that are certain to be among those wanted, up to enough.

        Under a UNION ALL with that LIMIT, rows of other operands that are known count too.
        """
        rows = rows_of(self.answered, [exp.Literal.number(1)])
        rows.set("where", exp.Where(this=raw(self._passes())))
        rows.set("limit", exp.Limit(expression=exp.Literal.number(enough)))
        counted = exp.Select(expressions=[raw("count(*)")]).from_(rows.subquery("q"))
        for number, operand in enumerate(_known_operands(self.answered, enough)):
            other = exp.Select(expressions=[raw("count(*)")]).from_(operand.subquery(f"o{number}"))
            total = exp.Add(this=counted.expressions[0], expression=exp.Subquery(this=other))
            counted.set("expressions", [total])
        return counted

    def count_in_order(self, order: str) -> exp.Select:
        """Count the rows wanted that sort no later than the first row that is still open."""
        rows = rows_of(
            self.answered,
            [
                raw(f"({self.decided}) AS d"),
                raw(f"({self._passes()}) AS p"),
                raw(f"rank() OVER (ORDER BY {order}) AS r"),
            ],
        )
        counted = exp.Select(expressions=[raw("count(*)")]).from_("ranked")
        first_open = "(SELECT min(r) FROM ranked WHERE NOT d)"
        counted.set("where", exp.Where(this=raw(f"d AND p AND r <= coalesce({first_open}, r)")))
        return counted.with_("ranked", rows, copy=False)

    def open_tuples(self, fields: Sequence[str], keys: Sequence[str], ready: str) -> exp.Select:
        """Select a call's tuples in the rows of keys that have no certain row yet.

        ready: SQL, whether the call is now to be asked for a row.
        """
        candidates = Candidates(keys, fields, ready, self._passes())
        return candidates.still_open(rows_of(self.answered, candidates.items))


@dataclass(frozen=True)
class Candidates:
    """The argument tuples of a call that may give keys the one row that each of them wants.

    Each part is SQL over the rows: keys, rendered fields, whether the call is now to be asked
    for a row (`ready`), and whether the row is certain to be wanted (`passes`).
    """

    keys: Sequence[str]
    fields: Sequence[str]
    ready: str
    passes: str

    @property
    def items(self) -> list[exp.Expr]:
        """What has to be selected from the rows."""
        parts = [f"({self.ready}) AS ready", f"({self.passes}) AS p"]
        values = [*self.keys, *(self.fields or ["1"])]
        named = [f"{value} AS {name}" for value, name in zip(values, self._names, strict=True)]
        return [raw(item) for item in (*named, *parts)]

    @property
    def names(self) -> list[exp.Expr]:
        """The names of `items`."""
        return [raw(name) for name in (*self._names, "ready", "p")]

    @property
    def _names(self) -> list[str]:
        fields = [f"f{i}" for i in range(len(self.fields))] or ["one"]
        return [*(f"k{i}" for i in range(len(self.keys))), *fields]

    def still_open(self, rows: exp.Select) -> exp.Select:
        """Select the tuples of keys that have no certain row yet; `rows` has `items`.

        One column per field, then the place of the tuple among those of its key, from 1;
        for several keys the first place. In the order of places. The order is that of hashes:
        the same for the same data, so that a statement that runs again asks the same.
        """
        ks, fs = (", ".join(names) for names in self._split_names())
        settled = f"coalesce(bool_or(p) OVER (PARTITION BY {ks}), false) AS settled"
        marked = exp.Select(expressions=[raw("*"), raw(settled)]).from_(rows.subquery("a"))
        still_open = exp.Select(expressions=[raw(ks), raw(fs)]).from_(marked.subquery("b"))
        still_open = still_open.where("ready AND NOT settled", copy=False).distinct(copy=False)
        place = f"row_number() OVER (PARTITION BY {ks} ORDER BY hash({fs})) AS p"
        placed = exp.Select(expressions=[raw("*"), raw(place)]).from_(still_open.subquery("c"))
        tuples = exp.Select(expressions=[raw(fs), raw("min(p) AS place")])
        tuples = tuples.from_(placed.subquery("e"))
        tuples.set("group", exp.Group(expressions=[raw(fs)]))
        tuples.set("order", exp.Order(expressions=[raw("place")]))
        return tuples

    def _split_names(self) -> tuple[list[str], list[str]]:
        return self._names[: len(self.keys)], self._names[len(self.keys) :]


def _known_operands(select: exp.Select, enough: int) -> list[exp.Query]:
    """Copy the other operands of a UNION ALL with LIMIT whose rows wait for no answer.

    Of a block that is written down, those are the operands before it, and those that call
    no model.
    """
    found: list[exp.Query] = []
    node: exp.Expr = select
    parent = node.parent
    while isinstance(parent, exp.Subquery | exp.Union):
        if isinstance(parent, exp.Union):
            if parent.args.get("distinct"):
                return []
            other = parent.expression if parent.this is node else parent.this
            found.append(other.unnest().copy())
            if parent.args.get("limit") is not None:
                whole = _rows_wanted(parent) == enough
                return [one for one in found if _is_known(one)] if whole else []
        node, parent = parent, parent.parent
    return []


def _rows_wanted(union: exp.Union) -> int | None:
    """LIMIT and OFFSET of a union in any order, where they are written as numbers."""
    clauses = [union.args.get("limit"), union.args.get("offset")]
    numbers = [clause.expression for clause in clauses if clause is not None]
    if union.args.get("order") or not all(isinstance(n, exp.Literal) and n.is_int for n in numbers):
        return None
    return sum(int(number.this) for number in numbers)


def _is_known(query: exp.Query) -> bool:
    marked = any(
        part.meta_get(BLOCK) or part.meta_get(MATERIALIZE) for part in query.find_all(exp.Query)
    )
    return not marked and not has_calls(query)
