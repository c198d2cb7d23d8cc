"""Promise 3 where DuckDB 2.0.0 orders joins wrongly: never a row without its answer."""

from __future__ import annotations

import quackllm
from quackllm.engine.providers.base import Request
from quackllm.testing import FakeProvider
from quackllm.udfs.base import Choice


def answer(request: Request) -> str:
    """'true' for conditions, no list for the one that is to be reduced, and a text else."""
    if isinstance(request.answer, Choice):
        return "true"
    return "no list" if "inner" in request.instruction else "text"


def test_calls_about_calls_over_a_cross_product_answer_every_row_that_passes() -> None:
    with quackllm.connect(
        provider=FakeProvider(answer=answer), progress=False, cache=False, max_retries=0
    ) as con:
        con.execute("CREATE TABLE t (a VARCHAR); INSERT INTO t VALUES ('x'), (NULL)")
        rows = con.execute(
            "SELECT s.a, o.a, LLM('q', s.a) FROM t s, t o WHERE LLM('p', LLM_REDUCE("
            "LLM('inner', s.a, return_type := 'VARCHAR[]'), 'p'), o.a, return_type := 'BOOLEAN')"
        ).fetchall()
        plan = con.execute(
            "EXPLAIN SELECT LLM('q', LLM('p', LLM('p', s.a)), o.a) FROM t s CROSS JOIN t o"
        ).fetchall()
    assert sorted(rows, key=str) == [("x", "x", "text"), (None, "x", None)]
    assert "no condition joins the tables" in str(plan)
