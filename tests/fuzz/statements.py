"""Cases: a query as it is, inside a view, a table or an INSERT, UPDATE, DELETE, rarer forms."""

from __future__ import annotations

import re
from random import Random

from hypothesis import strategies as st

from quackllm.optimizer.rules import RULES
from tests.fuzz.cases import VARCHAR, Case, Scope, Table
from tests.fuzz.data import tables as random_tables
from tests.fuzz.forms import Forms
from tests.fuzz.queries import Ordered, Queries
from tests.fuzz.selects import Query
from tests.fuzz.source import Source

SETTINGS = (("llm_reorder", "false"), ("llm_concurrency", "2"), ("llm_row_first", "true"))
"""Settings that may change how a plan asks, and never what it answers."""

OPTIONAL_RULES = tuple(rule.__name__ for rule in RULES if rule.__name__ != "stage_calls")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a case with Hypothesis, which can make it small."""
    return _case(Source(lambda count: draw(st.integers(0, count - 1))))


def random_case(random: Random) -> tuple[Case, list[int]]:
    """Draw a case with a plain generator; return also the choices made.

    Hypothesis mostly varies cases that it has; for a long run independent ones find
    more. `cases` makes the same case of the same choices.
    """
    choices: list[int] = []

    def below(count: int) -> int:
        choices.append(random.randrange(count))
        return choices[-1]

    return _case(Source(below)), choices


def _case(source: Source) -> Case:
    tables = random_tables(source)
    case = _statement(source, tables)
    disabled = ""
    if source.chance(6):
        disabled = ",".join(sorted(set(source.some(OPTIONAL_RULES, 1, 3))))
    fault_rate = 0.4 if source.chance(8) else 0.0
    return Case(
        tables=case.tables,
        sql=case.sql,
        unlimited=case.unlimited,
        ordered=case.ordered,
        sampled=case.sampled,
        disabled=disabled,
        fault_rate=fault_rate,
        threads=source.pick((1, 1, 1, 2, 4)),
        prepared=_prepared(source, case) if source.chance(6) else None,
        setup=case.setup,
        effect=case.effect,
        settings=tuple(sorted(set(source.some(SETTINGS, 1, 2)))) if source.chance(8) else (),
        table_functions=tuple(source.tables),
        features=dict(source.used),
    )


CONSTANT = re.compile(r"(?<=[( ])'(?:[pqr]|German)'(?=[,)])|(?<= LIMIT )\d+|(?<= OFFSET )\d+")
"""Prompts and languages of calls, and numbers of LIMIT and OFFSET, in a statement's text."""


def _prepared(source: Source, case: Case) -> tuple[str, tuple[str | int, ...]] | None:
    """Put parameters in the place of some constants of a query."""
    values: list[str | int] = []

    def parameter(found: re.Match[str]) -> str:
        if source.chance(2):
            return found[0]
        values.append(found[0].strip("'") if found[0].startswith("'") else int(found[0]))
        return f"${len(values)}"

    if not case.is_query:
        return None
    text = CONSTANT.sub(parameter, case.sql)
    if not values:
        return None
    source.use("parameters")
    return text, tuple(values)


def _statement(source: Source, tables: tuple[Table, ...]) -> Case:
    queries = Queries(source, tables)
    kind = source.below(23)
    if kind >= 20:
        return Forms(source, tables, queries).any()
    if kind >= 18:
        return _changing(source, tables, queries)
    with_, query = queries.top()
    if source.calls == 0:
        query = _with_call(source, query)
    if kind == 17:
        return _stored(source, tables, with_ + query.sql)
    if kind == 16:
        source.use("USING SAMPLE")
        text = f"SELECT * FROM ({query.sql}) USING SAMPLE 3 ROWS"
        return Case(tables, with_ + text, sampled=True)
    return _ordered(tables, with_, query, queries.ordered(query))


def _with_call(source: Source, query: Query) -> Query:
    """A statement without a call goes to DuckDB untouched, and shows nothing here."""
    source.use("call on a finished query")
    column = query.columns[0].sql if query.columns else "1"
    columns = (*query.columns,)
    return Query(
        f"SELECT * FROM ({query.sql}) AS finished WHERE LLM_FILTER('p', {column})", columns
    )


def _ordered(tables: tuple[Table, ...], with_: str, query: Query, ordered: Ordered) -> Case:
    text = with_ + query.sql + ordered.order
    return Case(
        tables,
        text + ordered.limit,
        unlimited=text if ordered.chooses else None,
        ordered=ordered.fixed,
    )


def _stored(source: Source, tables: tuple[Table, ...], text: str) -> Case:
    """The rows of a query, by way of a view or a table."""
    kinds = ("VIEW", "TABLE", "INSERT", "MACRO", "MACRO OF TWO", "TABLE MACRO")
    kind = source.pick((*kinds, "TABLE MACRO OF TWO"))
    source.use(f"statement: {kind}")
    read = "SELECT * FROM made"
    if kind == "VIEW":
        view = f"CREATE OR REPLACE VIEW made_view AS {text}"
        return Case(tables, "SELECT * FROM made_view", setup=view)
    if kind == "MACRO":
        macro = "CREATE OR REPLACE MACRO asked(v) AS LLM_FILTER('p', v)"
        read = f"SELECT *, asked(q) AS a FROM ({text}) q WHERE asked(q) IS NOT FALSE"
        return Case(tables, read, setup=macro)
    if kind == "MACRO OF TWO":
        macro = (
            "CREATE OR REPLACE MACRO told(v, w) AS CASE WHEN w > 0 AND LLM_FILTER('p', v) "
            "THEN LLM('q', v, w) END"
        )
        read = (
            f"SELECT max(told(q, n)) AS m, count(*) FILTER (WHERE told(q, 1) > '') AS n "
            f"FROM ({text}) q, (VALUES (1), (NULL), (2)) s(n) WHERE told(n, n) IS NOT NULL"
        )
        return Case(tables, read, setup=macro)
    if kind == "TABLE MACRO":
        macro = f"CREATE OR REPLACE MACRO made_rows() AS TABLE {text}"
        return Case(tables, "SELECT * FROM made_rows()", setup=macro)
    if kind == "TABLE MACRO OF TWO":
        macro = (
            "CREATE OR REPLACE MACRO some_rows(v, most) AS TABLE SELECT *, LLM('q', v) AS r FROM "
            f"({text}) q WHERE LLM_FILTER('p', q, v) ORDER BY ALL LIMIT most"
        )
        return Case(tables, "SELECT * FROM some_rows('x', 2)", setup=macro)
    if kind == "TABLE":
        return Case(tables, f"CREATE OR REPLACE TABLE made AS {text}", effect=read)
    shape = f"CREATE OR REPLACE TABLE made AS SELECT * FROM ({text}) LIMIT 0"
    return Case(tables, f"INSERT INTO made {text}", setup=shape, effect=read)


def _changing(source: Source, tables: tuple[Table, ...], queries: Queries) -> Case:
    """UPDATE and DELETE with calls in their expressions."""
    table = source.pick(tables)
    scope = Scope(table.columns)
    read = f"SELECT * FROM {table.name}"
    condition = queries.expressions.condition(scope, 1)
    if source.chance(2):
        source.use("statement: DELETE")
        return Case(tables, f"DELETE FROM {table.name} WHERE {condition}", effect=read)
    source.use("statement: UPDATE")
    column = source.pick(scope.of_type(VARCHAR)).sql
    value = queries.expressions.value(VARCHAR, scope, 1)
    text = f"UPDATE {table.name} SET {column} = {value} WHERE {condition}"
    return Case(tables, text, effect=read)
