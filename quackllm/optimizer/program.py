"""A plan made executable: SQL for DuckDB and questions for the model, in order."""

from __future__ import annotations

from dataclasses import dataclass

from quackllm.optimizer.plan import Block, Plan, Site, Strategy
from quackllm.optimizer.readable import kept_queries, readable
from quackllm.udfs.base import ALL, Call, Wanted


@dataclass(frozen=True)
class MaterializeStage:
    """Run a query once and keep its rows in a temporary table."""

    table: str
    sql: str


@dataclass(frozen=True)
class PairSearch:
    """The pairs of a join of which some are chosen to be asked.

    strategy: how. left, right: SQL of the distinct values of either side: a VARCHAR column
        for each field, rendered, and `h`, a hash of them all. pairs: SQL of the distinct
        pairs that may be asked, as two columns of such hashes.
    """

    strategy: Strategy
    left: str
    right: str
    pairs: str


@dataclass(frozen=True)
class ModelStage:
    """Ask one call for the distinct argument tuples that a query finds.

    number: the stage's number in the statement, from 1.
    answers: name under which the answers are registered with DuckDB: a table of
        `k` (the key of a tuple) and `v` (the canonical text of its answer).
    probe: SQL of the distinct tuples: one VARCHAR column per field, rendered; no
        column (and one row) for a call without fields.
    clause: where in the statement the call stands.
    guard: the guards as SQL text, for people.
    wanted: of a joint call, which answers are read.
    search: where not all tuples of the probe need to be asked, how they are chosen.
    """

    number: int
    call: Call
    answers: str
    probe: str
    clause: str
    guard: str
    wanted: Wanted = ALL
    search: PairSearch | None = None

    @property
    def is_joint(self) -> bool:
        """Whether all tuples are to be asked at once."""
        return self.call.declaration.joint is not None


@dataclass(frozen=True)
class Ceiling:
    """What is known of a stage's argument tuples before anything is answered.

    number: the stage's. block, site: where its call stands.
    sql: SELECT of the tuples that it asks for at most: one VARCHAR column per entry of
        `columns`, then the number of rows of each tuple. None when the rows depend on
        answers of an inner block.
    columns: position of the call's field that a column holds; None for an argument of
        an earlier call whose answer is a field of this one.
    rows: where there is no `sql`, the rows that a LIMIT leaves at most.
    search: where not all tuples need to be asked, how they are chosen.
    partners: SELECT of the rows that look for a partner, where one is enough for each.
    """

    number: int
    block: Block
    site: Site
    sql: str | None
    columns: tuple[int | None, ...] = ()
    rows: int | None = None
    search: PairSearch | None = None
    partners: str | None = None


@dataclass(frozen=True)
class PartnerRounds:
    """How rows look for a partner each: their pairs are kept, and read a few at a time.

    tables: temporary tables, name and SQL, in the order in which they are made. The first one
        is that of the rows: their number `k`, from 1, and whether they have `matched`.
    pairs: SQL of all pairs of rows that have not: `k`, and the `place` among those of a row,
        from 1. open: name of the table of those that are asked now, which the probes read.
    matched: SQL of the numbers of rows that have a match among these.
    stop_after, count: where not all rows are wanted, how many are, and SQL that counts those
        that are there.
    """

    tables: tuple[tuple[str, str], ...]
    pairs: str
    open: str
    matched: str
    stop_after: int | None = None
    count: str | None = None

    @property
    def rows(self) -> str:
        """The name of the table of the rows."""
        return self.tables[0][0]


@dataclass(frozen=True)
class BlockStage:
    """The model stages of one block.

    stop_after: rows that are enough, None when all have to be asked for.
    count: SQL that counts the rows which the answers so far make certain.
    in_order: whether rows are wanted in the order in which the first probe gives tuples.
    keys: what rows are wanted of each value of, as SQL for people. A probe then gives the
        tuples that are still worth asking, with their `place` among those of one value.
    fulfilling: further conditions of the rows wanted, as SQL for people.
    partners: where the keys are those of rows that look for a partner, how they do.
    """

    stages: tuple[ModelStage, ...]
    stop_after: int | None = None
    count: str | None = None
    in_order: bool = False
    keys: tuple[str, ...] = ()
    fulfilling: tuple[str, ...] = ()
    partners: PartnerRounds | None = None

    @property
    def tables(self) -> tuple[str, ...]:
        """The temporary tables that answering the block makes."""
        partners = self.partners
        return () if partners is None else (*(name for name, _ in partners.tables), partners.open)


@dataclass(frozen=True)
class Program:
    """Stages in order, then the query whose rows are the result.

    unstaged: reasons why some calls run as a scalar function in `final`.
    plan: what was written down; None for a statement that is not planned.
    """

    stages: tuple[MaterializeStage | BlockStage, ...]
    final: str
    unstaged: tuple[str, ...] = ()
    plan: Plan | None = None

    @property
    def applied(self) -> tuple[str, ...]:
        """Rules that changed the plan."""
        return () if self.plan is None else self.plan.applied

    @property
    def shown(self) -> str:
        """`final` for people, with calls by name in the place of joins."""
        return self.final if self.plan is None else readable(self.plan, self.plan.root)

    @property
    def kept_shown(self) -> list[str]:
        """The queries whose rows are kept, for people, in the order of their stages."""
        plan = self.plan
        return [] if plan is None else [readable(plan, query) for query in kept_queries(plan)]

    @property
    def model_stages(self) -> tuple[ModelStage, ...]:
        """All model stages, in order."""
        blocks = (stage for stage in self.stages if isinstance(stage, BlockStage))
        return tuple(stage for block in blocks for stage in block.stages)
