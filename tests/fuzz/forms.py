"""Statements of rarer forms: MERGE, upserts, RETURNING, COPY, PIVOT, COLUMNS, seeded samples."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.cases import BOOLEAN, INTEGER, VARCHAR, Case, Column, Scope, Table
from tests.fuzz.queries import Queries
from tests.fuzz.source import Source

FEATURE = "form: "
"""Begins the name of what each of them uses."""


class Forms:
    """Writes one of the forms over some tables."""

    def __init__(self, source: Source, tables: tuple[Table, ...], queries: Queries) -> None:
        self._source = source
        self._tables = tables
        self._expressions = queries.expressions
        self._queries = queries

    def any(self) -> Case:
        """One of the forms, named among what the case uses."""
        forms: tuple[Callable[[], Case], ...] = (
            self.columns,
            self.sample,
            self.positional,
            self.pivot,
            self.unpivot,
            self.copy,
            self.returning,
            self.merge,
            self.upsert,
        )
        form = self._source.pick(forms)
        self._source.use(FEATURE + form.__name__)
        return form()

    def columns(self) -> Case:
        """`COLUMNS(...)` as an item or the argument of a call, beside other calls."""
        source, table = self._source, self._table()
        scope = Scope(table.columns)
        where = f" WHERE {self._expressions.condition(scope, 1)}"
        name = table.columns[0].sql
        star = source.pick(("*", f"[c for c in * if c <> '{name}']", f"* EXCLUDE ({name})"))
        item = source.pick(("COLUMNS({})", "LLM('p', COLUMNS({}))", "max(COLUMNS({}))"))
        items = item.format(star)
        if not item.startswith("max"):
            items += f", {self._expressions.value(VARCHAR, scope, 1)} AS r"
        return Case(self._tables, f"SELECT {items} FROM {table.name}{where}")

    def sample(self) -> Case:
        """A sample whose seed fixes its rows."""
        source, table = self._source, self._table()
        scope = Scope(table.columns)
        value = self._expressions.value(VARCHAR, scope, 1)
        text = f"SELECT *, {value} AS r FROM {table.name}"
        if source.chance(2):
            where = f" WHERE {self._call(VARCHAR, scope)} IS NOT NULL"
            text += f" TABLESAMPLE reservoir(3 ROWS) REPEATABLE (7){where}"
        else:
            text += f" WHERE {self._call(BOOLEAN, scope)} IS NOT FALSE"
            text += " USING SAMPLE reservoir(3 ROWS) REPEATABLE (7)"
        return Case(self._tables, text)

    def positional(self) -> Case:
        """A positional join: what stands beside what is fixed by the tables alone."""
        left, right = self._table(), self._table()
        scope = Scope(
            (*(c.of("a") for c in left.columns), *(c.of("b") for c in right.columns)),
        )
        text = (
            f"SELECT {self._expressions.value(VARCHAR, scope, 1)} AS r, b.* FROM {left.name} a "
            f"POSITIONAL JOIN {right.name} b WHERE {self._call(BOOLEAN, scope)}"
        )
        return Case(self._tables, text)

    def pivot(self) -> Case:
        """PIVOT of a query, and calls over what it makes."""
        table = self._table()
        scope = Scope(table.columns)
        text = (
            f"SELECT *, {self._call(VARCHAR, Scope((Column('x', INTEGER),)))} AS r FROM "
            f"(SELECT {self._expressions.value(VARCHAR, scope, 1)} AS k, "
            f"{self._expressions.value(INTEGER, scope, 1)} AS n FROM {table.name}) "
            f"PIVOT ({self._source.pick(('count(*)', 'sum(n)'))} FOR k IN ('x', 'y'))"
        )
        return Case(self._tables, text)

    def unpivot(self) -> Case:
        """UNPIVOT of two columns of a query, and calls over names and values."""
        table = self._table()
        scope = Scope(table.columns)
        values = [self._expressions.value(VARCHAR, scope, 1) for _ in range(2)]
        made = Scope((Column("v", VARCHAR), Column("n", VARCHAR)))
        text = (
            f"SELECT *, {self._expressions.value(VARCHAR, made, 1)} AS r FROM "
            f"(SELECT {values[0]} AS c1, {values[1]} AS c2 FROM {table.name}) "
            f"UNPIVOT (v FOR n IN (c1, c2)) WHERE {self._call(BOOLEAN, made)}"
        )
        return Case(self._tables, text)

    def copy(self) -> Case:
        """COPY of a query into a file, which is read again."""
        file = Path(tempfile.gettempdir(), f"quackllm_fuzz_{os.getpid()}.parquet")
        with_, query = self._queries.top()
        text = f"COPY ({with_}{query.sql}) TO '{file}' (FORMAT parquet)"
        return Case(self._tables, text, effect=f"SELECT * FROM '{file}'")

    def returning(self) -> Case:
        """INSERT, UPDATE and DELETE that return rows, calls among what is returned."""
        source, make, table = self._source, self._expressions, self._table()
        scope = Scope(tuple(column.of(table.name) for column in table.columns))
        text, key = (column.sql for column in table.columns[:2])
        grouped, given = self._one_row_of_a_key()
        both = Scope((*scope.local, *given.local))
        tied = f"{table.name}.{key} = s.k AND {make.pairs(given, scope)}"
        changes: tuple[Callable[[], str], ...] = (
            lambda: f"DELETE FROM {table.name} WHERE {make.condition(scope, 1)}",
            lambda: (
                f"INSERT INTO {table.name} SELECT * FROM {table.name} "
                f"WHERE {make.condition(scope, 1)}"
            ),
            lambda: (
                f"UPDATE {table.name} SET {text} = {make.value(VARCHAR, scope, 1)} "
                f"WHERE {make.condition(scope, 1)}"
            ),
            lambda: (
                f"INSERT INTO {table.name} ({text}, {key}) VALUES "
                f"({make.value(VARCHAR, Scope(()), 1)}, {make.value(INTEGER, Scope(()), 1)})"
            ),
            lambda: f"DELETE FROM {table.name} USING {grouped} WHERE {tied}",
            lambda: (
                f"UPDATE {table.name} SET {text} = {make.value(VARCHAR, both, 1)} "
                f"FROM {grouped} WHERE {tied}"
            ),
        )
        change = source.pick(changes)()
        star = source.pick(("*, ", "", f"{table.name}.{key} AS b, "))
        return Case(self._tables, f"{change} RETURNING {star}{self._call(VARCHAR, scope)} AS r")

    def merge(self) -> Case:
        """MERGE with calls in its source or its actions; the source has one row of a key."""
        source, target = self._source, self._table()
        text, key = target.columns[0].sql, target.columns[1].sql
        read, given = self._one_row_of_a_key()
        both = Scope((*given.local, *(column.of(target.name) for column in target.columns)))
        updated = f"UPDATE SET {text} = {self._expressions.value(VARCHAR, both, 1)}"
        matched = source.pick((updated, "DELETE"))
        on = f"{target.name}.{key} = s.k"
        if source.chance(3):
            source.use("MERGE with a call in ON")
            on += f" AND {self._call(BOOLEAN, both)}"
        inserted = f"({text}, {key}) VALUES ({self._expressions.value(VARCHAR, given, 1)}, s.k)"
        condition = f"AND {self._expressions.condition(both, 1)} " if source.chance(2) else ""
        new = f"AND {self._expressions.condition(given, 1)} " if source.chance(3) else ""
        sql = (
            f"MERGE INTO {target.name} USING {read} ON {on} "
            f"WHEN MATCHED {condition}THEN {matched} WHEN NOT MATCHED {new}THEN INSERT {inserted}"
        )
        if source.chance(3):
            source.use("MERGE with RETURNING")
            returned = self._call(VARCHAR, Scope(target.columns))
            return Case(self._tables, f"{sql} RETURNING merge_action, {text}, {returned} AS r")
        return Case(self._tables, sql, effect=f"SELECT * FROM {target.name}")

    def upsert(self) -> Case:
        """INSERT ... ON CONFLICT, calls in its rows and in what it sets; one row of a key."""
        source, make = self._source, self._expressions
        keyed = Table(
            "keyed",
            (Column("k", "INTEGER PRIMARY KEY"), Column("v", VARCHAR)),
            (("1", "'x'"), ("2", "NULL"), ("-1", "'y'")),
        )
        read, given = self._one_row_of_a_key()
        rows = f"SELECT s.k, s.v FROM {read} WHERE s.k IS NOT NULL"
        if source.chance(4):
            none = Scope(())
            rows = ", ".join(f"({key}, {make.value(VARCHAR, none, 1)})" for key in (1, 7))
            rows = f"VALUES {rows}"
        elif source.chance(2):
            rows += f" AND {make.condition(given, 1)}"
        both = Scope((Column("excluded.v", VARCHAR), Column("keyed.v", VARCHAR)))
        words = source.pick(("INSERT", "INSERT", "INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE"))
        action = ""
        if words == "INSERT":
            updates = (
                "NOTHING",
                "UPDATE SET v = excluded.v",
                f"UPDATE SET v = {make.value(VARCHAR, both, 1)}",
                f"UPDATE SET v = excluded.v WHERE {self._call(BOOLEAN, both)}",
            )
            action = f" ON CONFLICT (k) DO {source.pick(updates)}"
        sql = f"{words} INTO keyed {rows}{action}"
        tables = (*self._tables, keyed)
        if source.chance(4):
            returned = self._call(VARCHAR, Scope((Column("v", VARCHAR),)))
            return Case(tables, f"{sql} RETURNING k, {returned} AS r")
        return Case(tables, sql, effect="SELECT * FROM keyed")

    def _one_row_of_a_key(self) -> tuple[str, Scope]:
        """A query `s` with a text v for each number k, so that what it changes is fixed."""
        read = self._table()
        rows = Scope(read.columns)
        query = (
            f"(SELECT {read.columns[1].sql} AS k, "
            f"max({self._expressions.value(VARCHAR, rows, 1)}) AS v FROM {read.name} "
            f"WHERE {self._call(BOOLEAN, rows)} GROUP BY 1) s"
        )
        return query, Scope((Column("s.v", VARCHAR), Column("s.k", INTEGER)))

    def _table(self) -> Table:
        return self._source.pick(self._tables)

    def _call(self, type_: str, scope: Scope) -> str:
        """A call for certain: a statement without one shows nothing."""
        self._source.calls += 1
        column = self._source.pick(scope.columns).sql
        return f"LLM_FILTER('p', {column})" if type_ == BOOLEAN else f"LLM('q', {column})"
