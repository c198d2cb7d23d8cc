"""Macros: the one that a call means, and its body with the call's arguments in it.

DuckDB puts the arguments into the parsed body before it looks any name up, so a body
may read the CTEs and tables of the statement that uses it. This does the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
from sqlglot import exp

from quackllm.engine.namespace import Place
from quackllm.optimizer.split import is_star

MACROS = """
SELECT database_name, schema_name, function_name, parameters, parameter_types,
    macro_definition, function_type = 'table_macro'
FROM duckdb_functions() WHERE NOT internal AND macro_definition IS NOT NULL
"""


@dataclass(frozen=True)
class Macro:
    """One overload of a macro. `types` has None for a parameter of any type."""

    database: str
    schema: str
    name: str
    parameters: tuple[str, ...]
    types: tuple[str | None, ...]
    definition: str
    is_table: bool

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.database.lower(), self.schema.lower()

    def bound(self, arguments: Sequence[exp.Expr]) -> dict[str, exp.Expr] | None:
        """Match arguments with parameters, in lower case; None when they do not fit.

        Nor do they when one is left to its default, which DuckDB's catalog does not tell.
        """
        positional = [a for a in arguments if not isinstance(a, exp.PropertyEQ | exp.Kwarg)]
        named = {
            a.this.name.lower(): a.expression
            for a in arguments
            if isinstance(a, exp.PropertyEQ | exp.Kwarg)
        }
        names = [parameter.lower() for parameter in self.parameters]
        if len(positional) + len(named) != len(names) or any(map(is_star, arguments)):
            return None
        values = {**dict(zip(names, positional, strict=False)), **named}
        if set(values) != set(names):
            return None
        for name, type_ in zip(names, self.types, strict=True):
            if type_:
                values[name] = exp.Cast(this=values[name].copy(), to=exp.Var(this=type_))
        return values


def list_macros(connection: duckdb.DuckDBPyConnection) -> dict[str, list[Macro]]:
    """List the macros of users by their names in lower case."""
    macros: dict[str, list[Macro]] = {}
    for row in connection.execute(MACROS).fetchall():
        database, schema, name, parameters, types, text, is_table = row
        macro = Macro(database, schema, name, tuple(parameters), tuple(types), text, is_table)
        macros.setdefault(macro.name.lower(), []).append(macro)
    return macros


def substituted(body: exp.Expr, values: Mapping[str, exp.Expr]) -> exp.Expr:
    """Put values in the place of parameters, in the body itself.

    A name with a table in front is a parameter's field, unless the body has such a table.
    """
    sources = {
        source.alias_or_name.lower()
        for source in body.find_all(exp.Table, exp.Subquery, exp.Lateral, exp.CTE)
    }
    for node in list(body.find_all(exp.Column)):
        first, *fields = node.parts
        value = values.get(first.name.lower())
        if value is None or is_star(node) or (fields and first.name.lower() in sources):
            continue
        replacement = _operand(value)
        for field in fields:
            replacement = exp.Dot(this=replacement, expression=field.copy())
        node.replace(replacement)
    return body


def _operand(value: exp.Expr) -> exp.Expr:
    plain = isinstance(value, exp.Column | exp.Literal | exp.Anonymous | exp.Cast | exp.Paren)
    return value.copy() if plain else exp.paren(value.copy(), copy=False)
