"""Which table functions there are, where a text uses one, and how DuckDB binds them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import duckdb
from sqlglot.tokenizer_core import Token, TokenType

from quackllm.engine.statement import Statement
from quackllm.engine.table_functions.base import TableFunction
from quackllm.engine.table_functions.dedup import DEDUP, DEDUP_PAIRS
from quackllm.engine.table_functions.search import SEARCH
from quackllm.engine.transactions import finish
from quackllm.optimizer.sql import literal, quote

BUILT_IN: tuple[TableFunction, ...] = (SEARCH, DEDUP, DEDUP_PAIRS)

NOT_PLANNED = (
    "{name} was evaluated by DuckDB itself, which cannot run it: use it in a SELECT, INSERT "
    "... SELECT, CREATE TABLE ... AS, COPY (SELECT ...) or a view that these read. In any other "
    "statement, read a table of its rows: CREATE TEMP TABLE found AS FROM {name}(...)"
)


class TableFunctions:
    """An immutable set of table functions, by name, whatever the case."""

    def __init__(self, functions: Sequence[TableFunction] = BUILT_IN) -> None:
        self._by_name = {function.name.lower(): function for function in functions}
        names = "|".join(map(re.escape, self._by_name)) or r"(?!)"
        self._mentioned = re.compile(rf'\b({names})"?\s*\(', re.IGNORECASE)

    def __iter__(self) -> Iterator[TableFunction]:
        return iter(self._by_name.values())

    @property
    def names(self) -> frozenset[str]:
        """Every name, in lower case."""
        return frozenset(self._by_name)

    def get(self, name: str) -> TableFunction | None:
        """Return the function of a name, None when there is none."""
        return self._by_name.get(name.lower())

    def mentioned_in(self, sql: str) -> bool:
        """Whether a text may use one; quick."""
        return self._mentioned.search(sql) is not None

    def used_in(self, statement: Statement) -> bool:
        """Whether a statement uses one: its name and a parenthesis, in no text or comment."""
        return self.mentioned_in(statement.sql) and any(
            _is_name(token) and following.token_type == TokenType.L_PAREN and self.get(token.text)
            for token, following in pairwise(statement.tokens)
        )

    def provide(self, connection: duckdb.DuckDBPyConnection, sql: str | None = None) -> None:
        """Let DuckDB bind them: make temporary macros with their columns.

        sql: the text that uses them, None for all of them. Created again for each
        statement: a rollback takes them back.
        """
        named = self.names if sql is None else set(map(str.lower, self._mentioned.findall(sql)))
        finish(connection)
        for function in self:
            if function.name.lower() in named:
                connection.execute(_macro(function))


def _is_name(token: Token) -> bool:
    return token.token_type in (TokenType.VAR, TokenType.IDENTIFIER)


def _macro(function: TableFunction) -> str:
    """Write the macro: it has columns, and no rows but an error."""
    given = [quote(each.name) for each in function.parameters]
    given += [f"{quote(option.name)} := NULL" for option in function.options]
    refusal = literal("Binder Error: " + NOT_PLANNED.format(name=function.name.upper()))
    return (
        f"CREATE OR REPLACE TEMP MACRO {quote(function.name)}({', '.join(given)}) AS TABLE "
        f"SELECT * FROM ({function.form}) WHERE error({refusal}) IS NOT NULL"
    )
