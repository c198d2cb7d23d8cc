"""A million rows: every distinct argument once, every row its answer."""

from __future__ import annotations

import pytest

import quackllm
from quackllm.testing import FakeProvider


@pytest.mark.slow
def test_a_million_rows_ask_for_each_distinct_text_once() -> None:
    fake = FakeProvider(
        answer=lambda request: "true" if '7"' in request.fields else "false", keep=0
    )
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute(
            "CREATE TABLE big AS SELECT i, 'text ' || (i % 100000) AS body FROM range(1000000) r(i)"
        )
        rows = con.execute("SELECT count(*) FROM big WHERE LLM_FILTER('seven?', body)").fetchall()
        expected = con.execute("SELECT count(*) FROM big WHERE body LIKE '%7'").fetchall()
    assert rows == expected
    assert fake.calls == 100_000
