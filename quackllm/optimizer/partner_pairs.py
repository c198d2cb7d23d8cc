"""SQL that keeps the pairs of rows that look for a partner, so that each is made once.

In each round some pairs of every row without a match are asked. To find them by the join itself
would take all pairs again and again. So the join is made once, and of a pair is kept: the number
`k` of its row, its `place` among the pairs of that row, numbers of the texts that a model is
shown, and what else its condition reads. Tables, `NAME` telling them apart:

    NAME         k, __llm_k0, ..., matched    the rows that look for a partner, and their keys
    NAME_t0 ...  i, t                         the texts of one argument
    NAME_pairs   k, place, __llm_t0, ..., __llm_r0, ..., __llm_v0, ...
    NAME_open    the same, of the pairs that are asked now, with the texts themselves

`__llm_t0`, ... are arguments, `__llm_r0`, ... say whether a site can be reached, `__llm_v0`, ...
are what else is read. Names that stand beside columns of the statement have this prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sqlglot import exp

from quackllm.optimizer.answers import result_sql
from quackllm.optimizer.guards import conditions_of_all, uses
from quackllm.optimizer.plan import RENDERED, Block, Partners, Site
from quackllm.optimizer.program import PartnerRounds
from quackllm.optimizer.scope import INNER, beside, enclosing, pairs_of, rows_of
from quackllm.optimizer.sites import key_name
from quackllm.optimizer.sql import column, held, json_fragment, never_fails, quote, raw, released

CONDITIONS = (exp.And, exp.Or, exp.Not, exp.Paren)
"""What combines parts of a condition, which are kept each as a value of its own."""


class Writer(Protocol):
    """Writes parts of a block as SQL, as `lower` does."""

    def fragments(self, site: Site) -> list[str]:
        """Render the fields of a site."""

    def reached(self, site: Site) -> str:
        """Whether a row reaches a site."""

    def decided(self, sites: Sequence[Site]) -> str:
        """Whether the calls of a row are answered, or never to be asked."""

    def resolved_text(self, part: exp.Expr) -> str:
        """Write a part of a block that may hold queries."""

    def written(self, tree: exp.Expr) -> str:
        """Write a tree that is not read again."""

    def written_at(self, place: exp.Expr, query: exp.Query) -> str:
        """Write a query that is not read again, under the CTEs that are visible at a place."""

    def join_answers(self, select: exp.Select, block: Block, columns: set[str]) -> None:
        """Join answers to the rows of a block, in place."""


class PartnerPairs:
    """Writes the pairs of one group of sites: those of a join, or of a correlated query.

    needed: columns of answers outside of the group that are read.
    """

    def __init__(
        self,
        writer: Writer,
        select: exp.Select,
        block: Block,
        partners: Partners,
        name: str,
        needed: set[str],
    ) -> None:
        self._writer = writer
        self._select = select
        self._block = block
        self._partners = partners
        self._name = name
        self._group = [site for site in block.sites if site.join == partners.join]
        self._answers = {site.column for site in self._group}
        self._needed = needed - self._answers
        self._values: list[str] = []
        shown = [self._shown(site, arg) for site in self._group for arg in site.args]
        self._texts = list(dict.fromkeys(text for text in shown if text is not None))
        self._condition = self._moved(partners.condition(select))
        self._sites = [self._moved_site(site, at) for at, site in enumerate(self._group)]

    # What is kept of a pair

    def _early(self, site: Site, args: tuple[exp.Expr, ...] | None = None) -> Site:
        """The site as it is before any of the group is answered, or of it one with these args."""
        if args is None:
            args = () if any(self._is_late(site, arg) for arg in site.args) else site.args
        free = tuple(guard for guard in site.guards if not uses(guard, self._answers))
        return replace(site, guards=free, args=args)

    def _is_late(self, site: Site, arg: exp.Expr) -> bool:
        """Whether an argument has a value only when others of the group are answered."""
        waits = any(uses(guard, self._answers) for guard in site.guards)
        return uses(arg, self._answers) or (waits and not never_fails(arg))

    def _shown(self, site: Site, arg: exp.Expr) -> str | None:
        """The text of an argument; None for one that has none yet."""
        if self._is_late(site, arg):
            return None
        [text] = self._writer.fragments(self._early(site, (arg,)))
        return text

    def _moved_site(self, site: Site, at: int) -> Site:
        """The site over a kept pair: what it is asked about, and when."""
        late = [self._moved(guard) for guard in site.guards if uses(guard, self._answers)]
        return replace(
            site,
            args=tuple(self._moved_arg(site, arg) for arg in site.args),
            guards=(column(f"__llm_r{at}"), *late),
            join=None,
            left=False,
            strategy=None,
        )

    def _moved_arg(self, site: Site, arg: exp.Expr) -> exp.Expr:
        shown = self._shown(site, arg)
        if shown is None:
            return self._moved(arg)
        moved = column(f"__llm_t{self._texts.index(shown)}")
        moved.meta[RENDERED] = True
        return moved

    def _moved(self, tree: exp.Expr) -> exp.Expr:
        """Copy a condition, what it reads of the pair as columns that are kept of it."""
        holder = held(tree.copy())
        self._replace(holder.this)
        return released(holder)

    def _replace(self, node: exp.Expr) -> None:
        if not uses(node, self._answers) and isinstance(node.parent, CONDITIONS):
            node.replace(self._kept(self._writer.resolved_text(node)))
        elif isinstance(node, CONDITIONS):
            for part in list(node.iter_expressions()):
                self._replace(part)
        else:
            for part in list(node.find_all(exp.Column)):
                if not uses(part, self._answers):
                    value = self._writer.resolved_text(part)
                    self._kept(json_fragment(value))  # tells apart what a collation calls equal
                    part.replace(self._kept(value))

    def _kept(self, value: str) -> exp.Column:
        if value not in self._values:
            self._values.append(value)
        return column(f"__llm_v{self._values.index(value)}")

    # The tables

    def rounds(self) -> PartnerRounds:
        """Write the tables, and the query of the rows that have a match among the open pairs."""
        matched = self._open(["k"], f"{self._writer.decided(self._sites)} AND ({self._holds()})")
        return PartnerRounds(
            tables=(
                (self._name, self._rows_table()),
                *((f"{self._name}_t{at}", self._text_table(at)) for at in range(len(self._texts))),
                (f"{self._name}_pairs", self._pairs_table()),
            ),
            pairs=self._open_pairs(),
            open=f"{self._name}_open",
            matched=matched,
        )

    def probe(self, site: Site) -> str:
        """Write the query of the tuples that a site is to be asked now."""
        at = self._group.index(site)
        moved = self._sites[at]
        ready = (
            f"{self._writer.reached(moved)} AND {self._writer.decided(self._sites[:at])} "
            f"AND {quote(key_name(site))} IS NULL"
        )
        names = [f"{text} AS f{i}" for i, text in enumerate(self._writer.fragments(moved))]
        return self._open(names or ["1 AS one"], ready)

    def _open(self, items: Sequence[str], condition: str) -> str:
        """Select distinct values of the open pairs, answers joined, that fulfil a condition."""
        rows = exp.Select(expressions=[raw(item) for item in items])
        rows = rows.from_(quote(f"{self._name}_open"))
        alone = Block(self._block.number, tuple(self._sites))
        self._writer.join_answers(rows, alone, self._answers)
        rows.where(raw(condition), copy=False)
        return self._writer.written(rows.distinct(copy=False))

    def _holds(self) -> str:
        return self._writer.written(self._condition.copy())

    def _pairs(self) -> str:
        """Write the query of all pairs, before any of them is asked about."""
        columns = [self._writer.resolved_text(part) for part in self._partners.keys]
        # Its text too: values that are equal to DuckDB may be shown differently to a model.
        keys = [*columns, *map(json_fragment, columns)]
        early = [self._early(site) for site in self._group]
        reached = [f"coalesce({self._writer.reached(site)}, false)" for site in early]
        waits = " OR ".join(map(self._unasked, self._group))
        named = {
            **{f"__llm_k{at}": value for at, value in enumerate(keys)},
            **{f"__llm_t{at}": value for at, value in enumerate(self._texts)},
            **{f"__llm_r{at}": value for at, value in enumerate(reached)},
            **{f"__llm_v{at}": value for at, value in enumerate(self._values)},
            "__llm_m": f"NOT ({waits}) AND ({self._unanswered()})",
        }
        items = [raw(f"{value} AS {name}") for name, value in named.items()]
        join = self._partners.join
        rows = rows_of(self._select, items) if join is None else pairs_of(self._select, join, items)
        self._writer.join_answers(rows, self._block, self._needed)
        for guard in conditions_of_all(self._group, self._select, self._partners):
            rows.where(raw(f"({self._writer.resolved_text(guard)})"), copy=False)
        outer = enclosing(self._select) if self._block.correlated else None
        if outer is None:
            return self._writer.written_at(self._select, rows)
        names = [raw(f"{INNER}.{name}") for name in named]
        rows = beside(outer, self._select, rows, names, self._block.outer_guards)
        return self._writer.written_at(outer, rows)

    def _unasked(self, site: Site) -> str:
        """Whether a pair waits for a site, none of the group being answered."""
        guards = tuple(self._as_null(guard) for guard in site.guards)
        early = replace(self._early(site), guards=guards)
        return f"coalesce({self._writer.reached(early)}, false)"

    def _unanswered(self) -> str:
        condition = self._as_null(self._partners.condition(self._select))
        return self._writer.resolved_text(condition)

    def _as_null(self, tree: exp.Expr) -> exp.Expr:
        """Copy a condition, NULL in the place of each answer of the group."""
        types = {site.column: result_sql(site.call) for site in self._group}

        def null(node: exp.Expr) -> exp.Expr:
            if isinstance(node, exp.Column) and not node.table and node.name in types:
                return raw(f"CAST(NULL AS {types[node.name]})")
            return node

        return tree.copy().transform(null) if uses(tree, self._answers) else tree

    def _rows_table(self) -> str:
        keys = ", ".join(f"__llm_k{at}" for at in range(2 * len(self._partners.keys)))
        return (
            f"SELECT row_number() OVER (ORDER BY hash({keys})) AS k, * FROM "
            f"(SELECT {keys}, coalesce(bool_or(__llm_m), false) AS matched FROM ({self._pairs()}) "
            f"GROUP BY {keys})"
        )

    def _text_table(self, at: int) -> str:
        return (
            f"SELECT row_number() OVER () AS i, t FROM "
            f"(SELECT DISTINCT __llm_t{at} AS t FROM ({self._pairs()}))"
        )

    def _pairs_table(self) -> str:
        """Number the pairs of each row in the order of hashes: the same for the same data."""
        keys, texts = range(2 * len(self._partners.keys)), range(len(self._texts))
        kept = [f"__llm_r{at}" for at in range(len(self._group))]
        kept += [f"__llm_v{at}" for at in range(len(self._values))]
        columns = ["k", *(f"d{at}.i AS __llm_t{at}" for at in texts), *kept]
        shown = ", ".join(f"p.__llm_t{at}" for at in texts)
        same = " AND ".join(f"p.__llm_k{at} IS NOT DISTINCT FROM r.__llm_k{at}" for at in keys)
        joins = [f"JOIN {quote(self._name)} AS r ON {same}"]
        joins += [
            f"JOIN {quote(f'{self._name}_t{at}')} AS d{at} ON d{at}.t = p.__llm_t{at}"
            for at in texts
        ]
        waiting = " OR ".join(f"__llm_r{at}" for at in range(len(self._group)))
        distinct = (
            f"SELECT DISTINCT {', '.join(columns)}, hash({shown or '0'}) AS h "
            f"FROM ({self._pairs()}) AS p {' '.join(joins)} WHERE NOT matched AND ({waiting})"
        )
        place = f"row_number() OVER (PARTITION BY k ORDER BY h, {', '.join(kept)}) AS place"
        return f"SELECT * EXCLUDE (h), {place} FROM ({distinct}) ORDER BY place, k"

    def _open_pairs(self) -> str:
        """Write the query of the pairs that are kept, their texts in the place of numbers."""
        texts = range(len(self._texts))
        replaced = ", ".join(f"d{at}.t AS __llm_t{at}" for at in texts)
        star = f"p.* REPLACE ({replaced})" if replaced else "p.*"
        joins = [
            f"JOIN {quote(f'{self._name}_t{at}')} AS d{at} ON p.__llm_t{at} = d{at}.i"
            for at in texts
        ]
        return f"SELECT {star} FROM {quote(f'{self._name}_pairs')} AS p {' '.join(joins)}"


@dataclass(frozen=True)
class Matched:
    """The rows that found a partner as a source, and what ties a row to one of them."""

    source: exp.Expr
    same: exp.Expr

    def asked_by(self, select: exp.Select) -> None:
        """Make a query ask whether the row around it is one of them, in place."""
        for name in list(select.args):
            select.set(name, None)
        select.set("expressions", [exp.Literal.number(1)])
        select.set("from_", exp.From(this=self.source))
        select.set("where", exp.Where(this=self.same))


def rows_name(run: str, block: Block, partners: Partners) -> str:
    """Return the name of the table of the rows that look for a partner."""
    place = "" if partners.join is None else f"_{partners.join + 1}"
    return f"__llm_rows_{run}_{block.number}{place}"


def matched_rows(writer: Writer, partners: Partners, name: str) -> Matched:
    """Write the rows that found a partner; `name` is that of the table of the rows."""
    columns = [writer.resolved_text(part) for part in partners.keys]
    keys = [*columns, *map(json_fragment, columns)]
    names = [f"__llm_k{at}" for at in range(len(keys))]
    same = [f"{value} IS NOT DISTINCT FROM {k}" for value, k in zip(keys, names, strict=True)]
    source = raw(f"(SELECT {', '.join(names)} FROM {quote(name)} WHERE matched) AS __llm_rows")
    return Matched(source, raw(" AND ".join(same)))
