"""The table that a text names, as an argument of a table function."""

from __future__ import annotations

import re

from sqlglot import exp
from sqlglot.errors import SqlglotError

from quackllm.optimizer.sql import parse

WORD = re.compile(r"[^\W\d]\w*")
"""A name that means the same in quotes: DuckDB's names have no case."""


def read_name(name: str) -> exp.Table:
    """Read the name of a table as it would stand in FROM, qualified or not.

    A text that is no name as it stands, such as one with spaces, is one name in quotes.
    """
    if WORD.fullmatch(name):
        return exp.Table(this=exp.to_identifier(name, quoted=True))
    try:
        tree = parse(f"SELECT * FROM {name}")
    except SqlglotError:
        tree = None
    table = None if tree is None else tree.args["from_"].this
    if isinstance(table, exp.Table) and isinstance(table.this, exp.Identifier):
        parts = {"this", "db", "catalog"}
        plain = not any(value for key, value in table.args.items() if key not in parts)
        if plain and tree == exp.Select(expressions=[exp.Star()]).from_(table.copy()):
            return table.copy()
    return exp.Table(this=exp.to_identifier(name, quoted=True))
