"""From a plan to SQL: probes for the argument tuples, joins for the answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import groupby

from sqlglot import exp

from quackllm.optimizer.answers import joined_value, result_sql
from quackllm.optimizer.bounds import arguments_asked, row_ceiling
from quackllm.optimizer.certain import RowsSoFar
from quackllm.optimizer.guards import uses
from quackllm.optimizer.naive import BINDING, FUNCTION, naive_text
from quackllm.optimizer.partner_pairs import Matched, PartnerPairs, matched_rows, rows_name
from quackllm.optimizer.plan import (
    BLOCK,
    LIMITED,
    MATERIALIZE,
    RENDERED,
    Block,
    Partners,
    Plan,
    Site,
)
from quackllm.optimizer.program import (
    BlockStage,
    Ceiling,
    MaterializeStage,
    ModelStage,
    PairSearch,
    Program,
)
from quackllm.optimizer.readable import names_read, with_names
from quackllm.optimizer.scope import (
    INNER,
    beside,
    ctes_around,
    enclosing,
    in_scope,
    own_rows_of,
    pairs_of,
    queries,
    rows_of,
)
from quackllm.optimizer.sites import (
    before,
    columns_named,
    columns_read,
    hide_from_stars,
    key_name,
    read_by,
)
from quackllm.optimizer.sql import (
    cross_commas,
    held,
    json_fragment,
    key,
    needs_parens,
    never_fails,
    quote,
    raw,
    released,
    some_value,
)
from quackllm.udfs.base import Call

STUB = "(SELECT '' AS k, NULL::VARCHAR AS v)"
"""Stands for a table of answers where a plan is only bound, not run."""


def lower(plan: Plan, run: str) -> Program:
    """Write the stages of a plan. `run` names the running statement and its tables."""
    lowering = _Lowering(plan.calls, run, {block.number: block for block in plan.blocks})
    lowering.names = {
        block.number: names_read(plan.select_of(block))
        for block in plan.blocks
        if any(site.guards for site in block.sites)
    }
    final = lowering.whole(lowering.lower(plan.root))
    return Program(tuple(lowering.stages), final, plan.unstaged, plan)


def bindable(plan: Plan) -> str:
    """Write a plan as one SELECT that binds before any stage has run."""
    blocks = {block.number: block for block in plan.blocks}
    lowering = _Lowering(plan.calls, BINDING, blocks, Purpose.BIND)
    return lowering.written(lowering.lower(plan.root))


def ceilings(plan: Plan) -> tuple[Ceiling, ...]:
    """Say of each stage, in order, which tuples it asks for at most.

    Guards that need an answer are left out; what stands on other staged blocks, or on
    calls that are not staged, is not told.
    """
    blocks = {block.number: block for block in plan.blocks}
    lowering = _Lowering(plan.calls, BINDING, blocks, Purpose.COUNT)
    lowering.lower(plan.root)
    return tuple(lowering.ceilings)


class Purpose(Enum):
    """What a plan is written for."""

    RUN = "stages and the final query"
    BIND = "one query with the same columns, that binds before any stage has run"
    COUNT = "queries of the tuples that stages ask for at most"


@dataclass
class _Lowering:
    calls: Mapping[str, Call]
    run: str
    blocks: Mapping[int, Block]
    purpose: Purpose = Purpose.RUN
    stages: list[MaterializeStage | BlockStage] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    ceilings: list[Ceiling] = field(default_factory=list)
    numbered: int = 0
    # By identity: equal guards may read rows that are kept under different names. The
    # part is held too, so that its identity stays its own.
    resolved: dict[int, tuple[exp.Expr, str]] = field(default_factory=dict)
    ctes: dict[int, tuple[exp.Expr, str]] = field(default_factory=dict)
    names: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    # Of the block that is being written, by the join that they decide.
    pairs: Mapping[int | None, PartnerPairs] = field(default_factory=dict)

    def text(self, tree: exp.Expr) -> str:
        return naive_text(tree, self.calls, self.run)

    def written(self, tree: exp.Expr) -> str:
        """Write a tree that was made to be written, and is not read again."""
        return naive_text(tree, self.calls, self.run, copy=False)

    def whole(self, tree: exp.Expr) -> str:
        """Write a tree that was lowered, with the CTEs that are written already as they are."""
        for cte, written in self.ctes.values():
            if cte.parent is not None:
                cte.replace(raw(written))
        return self.written(tree)

    def written_at(self, place: exp.Expr, query: exp.Query) -> str:
        """Write a query, made to be written, under the CTEs that are visible at a place."""
        return self.written(in_scope(place, query, self._written_cte))

    def _written_cte(self, cte: exp.Expr) -> exp.Expr:
        """Write a CTE, once for all that may read it: see `lower` for when it is out of date."""
        if id(cte) not in self.ctes:
            self.ctes[id(cte)] = cte, self.text(cte)
        return raw(self.ctes[id(cte)][1])

    def lower(self, root: exp.Expr) -> exp.Expr:
        holder = held(root.copy())
        for query in _queries(holder):
            ctes = list(ctes_around(query))
            number = query.meta.pop(BLOCK, None)
            kept = query.meta.pop(MATERIALIZE, None)
            if number is not None:
                assert isinstance(query, exp.Select)
                self._block(query, self.blocks[number])
            if kept and self.purpose is Purpose.RUN:
                self._materialize(query, kept)
            for cte in ctes:
                self.ctes.pop(id(cte), None)
        return released(holder)

    def _materialize(self, query: exp.Query, name: str) -> None:
        table = f"__llm_kept_{self.run}_{len(self.stages) + 1}"
        self.kept[name] = table
        self.stages.append(MaterializeStage(table, self.written_at(query, query.copy())))
        query.replace(exp.Select(expressions=[exp.Star()]).from_(quote(table)))

    def resolved_text(self, part: exp.Expr) -> str:
        """Write a guard or an argument, its nested queries as they are after their stages."""
        if id(part) not in self.resolved:
            self.resolved[id(part)] = part, self.written(self._resolved(part))
        return self.resolved[id(part)][1]

    def _resolved(self, part: exp.Expr) -> exp.Expr:
        holder = held(part.copy())
        for query in _queries(holder):
            number = query.meta.pop(BLOCK, None)
            kept = query.meta.pop(MATERIALIZE, None)
            if kept in self.kept:
                query.replace(exp.Select(expressions=[exp.Star()]).from_(quote(self.kept[kept])))
            elif number is not None:
                assert isinstance(query, exp.Select)
                self._answer(query, self.blocks[number])
        return released(holder)

    def _answer(self, select: exp.Select, block: Block) -> None:
        """Join the answers of all sites to the rows of a block, in place."""
        around = next((each for each in block.partners if each.join is None), None)
        if around is not None:
            self._matched(block, around).asked_by(select)
            return
        others = [site.column for site in block.sites if block.partners_by(site) is None]
        self.join_answers(select, block, others)
        if block.stop_after is not None:
            select.where(raw(self.decided(block.sites)), copy=False)

    def fragments(self, site: Site) -> list[str]:
        """Render the fields of a site; rows that do not reach it evaluate nothing that fails."""
        guards = () if site.is_joint else site.guards
        guard = " AND ".join(self.operand(part) for part in guards)
        fragments = []
        for arg in site.args:
            text = self.resolved_text(arg)
            fragment = text if arg.meta_get(RENDERED) else json_fragment(text)
            if guard and not never_fails(arg):
                fragment = f"CASE WHEN {guard} THEN {fragment} ELSE 'null' END"
            fragments.append(fragment)
        return fragments

    def _block(self, select: exp.Select, block: Block) -> None:
        stages = []
        running = self.purpose is Purpose.RUN
        self.pairs = {
            each.join: self._pairs_of_partners(select, block, each)
            for each in (block.partners if running else ())
        }
        for site in block.sites:
            self.numbered += 1
            if self.purpose is Purpose.COUNT:
                self._ceiling(select, block, site)
            elif self.purpose is Purpose.RUN:
                stages.append(self._model_stage(select, block, site, self.numbered))
        by_partners = [*self._by_partners(stages, block)] if block.partners and running else []
        self._answer(select, block)
        self.stages.extend(self._counting(stage, select, block) for stage in by_partners)
        if running and not block.partners:
            self.stages.append(self._block_stage(stages, select, block))

    def _by_partners(self, stages: list[ModelStage], block: Block) -> Iterator[BlockStage]:
        """Group the stages of a block by the join that they decide."""
        found = {partners.join: partners for partners in block.partners}
        pairs = zip(block.sites, stages, strict=True)
        for join, group in groupby(pairs, key=lambda pair: pair[0].join):
            together = BlockStage(tuple(stage for _, stage in group))
            if join in found:
                keys = tuple(self._readable(key, block) for key in found[join].keys)
                rounds = self.pairs[join].rounds()
                together = replace(together, stop_after=1, keys=keys, partners=rounds)
            yield together

    def _counting(self, stage: BlockStage, answered: exp.Select, block: Block) -> BlockStage:
        """Add the count of the rows of a LIMIT that some have found their partner for."""
        wanted = block.partners[0].stop_after
        if wanted is None or stage.partners is None:
            return stage
        query = enclosing(answered) if block.correlated else answered
        assert query is not None
        counted = RowsSoFar(query, "true", (), self.text).count(wanted)
        count = self.written_at(query, counted)
        return replace(stage, partners=replace(stage.partners, stop_after=wanted, count=count))

    def _block_stage(
        self, stages: list[ModelStage], answered: exp.Select, block: Block
    ) -> BlockStage:
        if block.stop_after is None:
            return BlockStage(tuple(stages))
        counts = [raw(self.resolved_text(part)) for part in block.counts]
        so_far = RowsSoFar(answered, self.decided(block.sites), counts, self.text)
        count = None
        if block.keys:
            stages = [
                replace(stage, probe=self._open_tuples(so_far, block, site))
                for stage, site in zip(stages, block.sites, strict=True)
            ]
        elif block.order:
            counted = so_far.count_in_order(self._order_of(block))
            count = self.written_at(answered, counted)
        else:
            at = _limited_query(answered, block) if block.limited else answered
            counted = replace(so_far, answered=at).count(block.stop_after)
            count = self.written_at(at, counted)
        return BlockStage(
            tuple(stages),
            block.stop_after,
            count,
            bool(block.order),
            tuple(self._readable(key, block) for key in block.keys),
            tuple(self._readable(part, block) for part in block.counts),
        )

    def _open_tuples(self, so_far: RowsSoFar, block: Block, site: Site) -> str:
        keys = [self.resolved_text(key) for key in block.keys]
        ready = f"{self._ready(block, site)} AND {quote(key_name(site))} IS NULL"
        probe = so_far.open_tuples(self.fragments(site), keys, ready)
        return self.written_at(so_far.answered, probe)

    def _ceiling(self, select: exp.Select, block: Block, site: Site) -> None:
        found = Ceiling(self.numbered, block, site, None, (), row_ceiling(select))
        asked = arguments_asked(block, site)
        if asked is not None:
            columns, args = asked
            answers = {other.column for other in block.sites}
            free = tuple(guard for guard in site.guards if not uses(guard, answers))
            plain = columns == tuple(range(len(site.args)))
            strategy = site.strategy if plain else None
            bare = replace(site, args=args, guards=free, strategy=strategy)
            sites = tuple(bare if other is site else other for other in block.sites)
            alone = replace(block, sites=sites, stop_after=None, partners=())
            stage = self._model_stage(select, alone, bare, self.numbered)
            # Otherwise its rows need answers.
            if STUB not in stage.probe and FUNCTION not in stage.probe:
                found = replace(found, sql=stage.probe, columns=columns, search=stage.search)
                partners = block.partners_by(site)
                if partners is not None:
                    keys = [self.resolved_text(key) for key in partners.keys]
                    found = replace(found, partners=self._distinct(select, alone, bare, keys))
        self.ceilings.append(found)

    def _order_of(self, block: Block) -> str:
        return ", ".join(self.resolved_text(key) for key in block.order)

    def _for_rounds(self, rows: exp.Select, block: Block, site: Site) -> exp.Select:
        """Select tuples in the order in which rounds ask for them, from rows with the fields.

        After the fields: `n`, the rows that a tuple stands in, and `place`, that of the
        first of them in the order wanted. Without an order tuples of most rows come first.
        """
        place = f"rank() OVER (ORDER BY {self._order_of(block)})" if block.order else "0"
        rows.append("expressions", raw(f"{place} AS r"))
        rows.append("expressions", raw(f"({self._ready(block, site)}) AS ready"))
        fields = [f"f{i}" for i in range(len(site.args))]
        items = [*fields, "count(*) AS n", "min(r) AS place"]
        tuples = exp.Select(expressions=[raw(item) for item in items])
        tuples = tuples.from_(rows.subquery("t", copy=False)).where("ready", copy=False)
        if fields:
            tuples.set("group", exp.Group(expressions=[raw(item) for item in fields]))
        else:
            tuples.set("having", exp.Having(this=raw("count(*) > 0")))
        tuples.set("order", exp.Order(expressions=[raw("place" if block.order else "n DESC")]))
        return tuples

    def _ready(self, block: Block, site: Site) -> str:
        """Whether a call is to be asked for a row, all earlier ones being decided."""
        earlier = before(block, site)
        return f"{self.reached(site)} AND {self.decided(earlier)}"

    def decided(self, sites: Sequence[Site]) -> str:
        """Whether a row's calls are answered, or never to be asked."""
        parts = [
            f"({quote(key_name(site))} IS NOT NULL OR NOT coalesce({self.reached(site)}, false))"
            for site in sites
        ]
        return " AND ".join(parts) or "true"

    def reached(self, site: Site) -> str:
        conditions = [self.operand(guard) for guard in site.guards]
        fragments = self.fragments(site)
        if fragments:
            conditions.append(f"({some_value(fragments)})")
        return f"({' AND '.join(conditions) or 'true'})"

    def operand(self, guard: exp.Expr) -> str:
        written = self.resolved_text(guard)
        return f"({written})" if needs_parens(guard) else written

    def _all_at_once(
        self, probe: exp.Select, select: exp.Select, block: Block, site: Site
    ) -> tuple[exp.Select, exp.Select]:
        """Select the distinct tuples of rows that reach a call; also say where that is read."""
        condition = self._any_reached(select, block, site) if site.is_joint else None
        probe.where(condition or raw(self.reached(site)), copy=False)
        outer = enclosing(select) if block.correlated else None
        if outer is not None:
            fields = [f"f{i}" for i in range(len(site.args))] or ["one"]
            names = [raw(f"{INNER}.{name}") for name in fields]
            probe = beside(outer, select, probe, names, block.outer_guards)
            select = outer
        if self.purpose is Purpose.COUNT:
            probe.select(raw("count(*) AS n"), copy=False)
            probe.set("group", exp.Group(all=True))
        elif site.args:
            probe.set("distinct", exp.Distinct())
        else:
            probe.set("limit", exp.Limit(expression=exp.Literal.number(1)))
        return probe, select

    def _any_reached(self, select: exp.Select, block: Block, site: Site) -> exp.Expr | None:
        """Whether a row reaches a joint call, which is then about all; None where all rows do."""
        if not site.guards:
            return None
        rows = rows_of(select, [exp.Literal.number(1)])
        self.join_answers(rows, block, columns_read(block, site))
        rows.where(raw(self.reached(site)), copy=False)
        return exp.Exists(this=rows)

    def _pairs_of_partners(self, select: exp.Select, block: Block, each: Partners) -> PartnerPairs:
        group = [site for site in block.sites if site.join == each.join]
        needed = {column for site in group for column in columns_read(block, site)}
        name = rows_name(self.run, block, each)
        return PartnerPairs(self, select, block, each, name, needed)

    def _matched(self, block: Block, partners: Partners) -> Matched:
        """Write the rows that found a partner as a source, and what ties a row to one of them."""
        if self.purpose is not Purpose.RUN:
            return Matched(raw(f"{STUB} AS none"), raw("false"))
        return matched_rows(self, partners, rows_name(self.run, block, partners))

    def _probe(self, select: exp.Select, block: Block, site: Site) -> str:
        """Write the query of the tuples that a site asks for, or in rounds may ask for."""
        fragments = self.fragments(site)
        columns = [raw(f"{part} AS f{i}") for i, part in enumerate(fragments)]
        shown = columns or [raw("1 AS one")]
        if site.join is not None:
            probe = pairs_of(select, site.join, shown)
        else:
            unread = site.unread if self.purpose is Purpose.RUN else ()  # COUNT counts rows too
            probe = own_rows_of(select, shown, unread)
        needed = columns_read(block, site)
        if block.stop_after is not None:
            needed.update(other.column for other in before(block, site))
        self.join_answers(probe, block, needed, beside_joins=site.join is not None)
        if block.stop_after is not None and not block.keys:
            probe = self._for_rounds(probe, block, site)
        else:
            probe, select = self._all_at_once(probe, select, block, site)
        return self.written_at(select, probe)

    def _model_stage(self, select: exp.Select, block: Block, site: Site, number: int) -> ModelStage:
        partners = block.partners_by(site)
        if partners is not None:
            probe = self.pairs[partners.join].probe(site)
        else:
            probe = self._probe(select, block, site)
        guard = " AND ".join(self._readable(part, block) for part in site.guards)
        return ModelStage(
            search=self._search(select, block, site),
            number=number,
            call=site.call,
            answers=self._answers(block, site),
            probe=probe,
            clause=site.clause,
            guard=guard,
            wanted=site.wanted,
        )

    def _search(self, select: exp.Select, block: Block, site: Site) -> PairSearch | None:
        """Write the queries of the two sides of a call whose pairs need not all be asked."""
        if site.strategy is None:
            return None
        fragments = self.fragments(site)
        left = [fragments[at] for at in site.strategy.left]
        right = [fragments[at] for at in site.strategy.right]
        hashes = f"hash({key(left)})", f"hash({key(right)})"
        return PairSearch(
            site.strategy,
            self._distinct(select, block, site, [*left, hashes[0]]),
            self._distinct(select, block, site, [*right, hashes[1]]),
            self._distinct(select, block, site, list(hashes)),
        )

    def _distinct(self, select: exp.Select, block: Block, site: Site, values: list[str]) -> str:
        """Write a query of the distinct values of the pairs that reach a call of a join."""
        names = [f"c{number}" for number in range(len(values))]
        items = [raw(f"{v} AS {name}") for v, name in zip(values, names, strict=True)]
        rows = (
            pairs_of(select, site.join, items) if site.join is not None else rows_of(select, items)
        )
        needed = columns_read(block, site)
        self.join_answers(rows, block, needed, beside_joins=site.join is not None)
        rows.where(raw(self.reached(site)), copy=False)
        place = select
        outer = enclosing(select) if block.correlated else None
        if outer is not None:
            read = [raw(f"{INNER}.{name}") for name in names]
            rows = beside(outer, select, rows, read, block.outer_guards)
            place = outer
        rows.set("distinct", exp.Distinct())
        return self.written_at(place, rows)

    def _answers(self, block: Block, site: Site) -> str:
        return f"__llm_answers_{self.run}_{site.column.removeprefix('__llm_')}"

    def join_answers(
        self,
        select: exp.Select,
        block: Block,
        columns: Collection[str],
        *,
        beside_joins: bool = False,
    ) -> None:
        """Join the answers of the named sites to the rows of a block, in place.

        beside_joins: answers that conditions of joins need are wanted as columns too.
        """
        between = self._answer_joins(select, block)
        sites = [
            site
            for site in block.sites
            if site.column in columns
            and (site.join is None or beside_joins)
            and site.column not in between
        ]
        if not sites and not between:
            return
        hide_from_stars(select, [*between.values(), *sites])
        if select.args.get("from_") is None:
            select.from_("(SELECT 1 AS __llm_row)", copy=False)
            outer = enclosing(select)
            if outer is not None:
                cross_commas(outer)
        cross_commas(select)
        joins = select.args.get("joins", [])
        select.set("joins", [*joins, *(self._join(block, site) for site in sites)])

    def _join(self, block: Block, site: Site) -> exp.Join:
        answers = quote(site.column + "_answers")
        if site.call.embeds and not site.guards and not any(a.find(exp.Column) for a in site.args):
            # The same vector for all rows: made of its list once, not again for each of them.
            value = f"CAST({self._lookup(block, site)} AS {result_sql(site.call)})"
            one = raw(f"(SELECT {value} AS {quote(site.column)}) AS {answers}")
            return exp.Join(this=one, kind="CROSS")
        table = raw(f"{self._answer_rows(block, site)} AS {answers}")
        return exp.Join(this=table, side="LEFT", on=raw(self._key_equals(site)))

    def _answer_joins(self, select: exp.Select, block: Block) -> dict[str, Site]:
        """Put answers into the conditions of joins; return those that became columns there.

        An answer about what is left of a join is joined before it. Any other is looked up
        inside the condition, behind which no further join can stand.
        """
        between: dict[str, Site] = {}
        joins: list[exp.Expr] = []
        for position, join in enumerate(select.args.get("joins", [])):
            partners = next((each for each in block.partners if each.join == position), None)
            if partners is not None and join.args.get("on") is not None:
                matched = self._matched(block, partners)
                join.set("this", matched.source)
                join.set("on", matched.same)
            for site in read_by(join, [s for s in block.sites if s.join == position]):
                if site.left:
                    between[site.column] = site
                    joins.append(self._join(block, site))
                for node in [] if site.left else columns_named(join, site.column):
                    node.replace(raw(self._lookup(block, site)))
            joins.append(join)
        if between:
            select.set("joins", joins)
        return between

    def _lookup(self, block: Block, site: Site) -> str:
        """Write a subquery that finds the answer of a site; it may hold further ones."""
        found = replace(
            site,
            args=tuple(self._looked_up(block, site, arg) for arg in site.args),
            guards=tuple(self._looked_up(block, site, guard) for guard in site.guards),
        )
        return (
            f"(SELECT {quote(site.column)} FROM {self._answer_rows(block, site)} "
            f"AS {quote(site.column + '_answers')} WHERE {self._key_equals(found)})"
        )

    def _looked_up(self, block: Block, site: Site, part: exp.Expr) -> exp.Expr:
        """Copy a part of a site of a join's condition, earlier answers as subqueries."""
        holder = held(part.copy())
        for other in before(block, site):
            if other.join == site.join and not other.left:
                for node in columns_named(holder, other.column):
                    node.replace(raw(self._lookup(block, other)))
        return released(holder)

    def _answer_rows(self, block: Block, site: Site) -> str:
        running = self.purpose is Purpose.RUN
        source = quote(self._answers(block, site)) if running else STUB
        return (
            f"(SELECT k AS {quote(key_name(site))}, {joined_value(site.call)} "
            f"AS {quote(site.column)} FROM {source})"
        )

    def _key_equals(self, site: Site) -> str:
        fragments = self.fragments(site)
        return f"{quote(key_name(site))} = {key(fragments)}"

    def _readable(self, guard: exp.Expr, block: Block) -> str:
        return self.text(with_names(guard, block, self.names.get(block.number, {})))


def _queries(root: exp.Expr) -> list[exp.Query]:
    """List the marked queries, inner ones first, CTEs before what uses them."""
    return [
        query for query in queries(root) if query.meta_get(BLOCK) or query.meta_get(MATERIALIZE)
    ]


def _limited_query(answered: exp.Select, block: Block) -> exp.Select:
    """The query around a block whose LIMIT stops it."""
    queries = answered.root().find_all(exp.Select)
    return next(query for query in queries if query.meta_get(LIMITED) == block.number)
