"""Statements on which the planner was once wrong, as small as they get.

Each is run as a test by test_fuzz.py. A new one comes from a report of
`python -m tests.fuzz.run`, together with the repair.
"""

from __future__ import annotations

from tests.fuzz.cases import BOOLEAN, DOUBLE, INTEGER, TEXTS, VARCHAR, Case, Column, Table

T1 = Table(
    "t1",
    (Column("a", VARCHAR), Column("b", INTEGER), Column("c", DOUBLE), Column("l", TEXTS)),
    (
        ("'x'", "1", "0.5", "['x']"),
        ("'y'", "2", "1.5", "[]"),
        ("NULL", "NULL", "NULL", "NULL"),
        ("'x'", "3", "NULL", "['y', NULL]"),
    ),
)
T2 = Table(
    "t2",
    (Column("a", VARCHAR), Column("b", INTEGER), Column("d", BOOLEAN)),
    (("'x'", "1", "true"), ("'z'", "NULL", "NULL")),
)


def _case(sql: str, **judged_by: object) -> Case:
    return Case((T1, T2), sql, **judged_by)  # type: ignore[arg-type]


REGRESSIONS: tuple[Case, ...] = (
    _case(
        "SELECT LLM_CLASSIFY(s5.r8, ['x','y']) FROM (SELECT LLM('q', s6.v) AS r8 FROM "
        "(VALUES (1,'x')) s6(a,v) JOIN t1 s7 ON s6.a = s7.b WHERE LLM_FILTER('p', s7.a) AND "
        "LLM('Is {v} right?', s6.v, return_type := 'BOOLEAN')) s5"
    ),
    _case(
        "SELECT CASE WHEN NULL::BOOLEAN THEN LLM('q', b) WHEN true THEN 'x' ELSE LLM('p', a) END "
        "FROM t1"
    ),
)
