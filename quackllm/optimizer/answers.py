"""How the answers of a stage become values: what is joined to the rows, and how it is read.

A vector is joined as a list and becomes the array that it is where it is read: DuckDB 2.0
fails at a LEFT JOIN of arrays in which a row finds no partner ("Cannot cast list with
length 0 to array with length 16").
"""

from __future__ import annotations

from sqlglot import exp

from quackllm.optimizer.sql import column
from quackllm.udfs.base import Call
from quackllm.udfs.type_parser import result_type


def joined_value(call: Call) -> str:
    """Return the SQL that makes of the column `v` of the answers what is joined."""
    if call.embeds:
        return "CAST(v AS FLOAT[])"
    return result_type(call.declaration).cast_sql("v")


def read_value(call: Call, name: str) -> exp.Expr:
    """Return the value of a call, read from the joined column of that name."""
    if call.embeds:
        return exp.Cast(this=column(name), to=exp.Var(this=result_sql(call)))
    return column(name)


def result_sql(call: Call) -> str:
    """Return the DuckDB type of a call's answers, as SQL."""
    return result_type(call.declaration).to_duckdb()
