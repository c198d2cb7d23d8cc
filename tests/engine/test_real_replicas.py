"""Two real llama.cpp servers for one model reuse of their prefix caches what one would."""

from __future__ import annotations

from typing import Any

import pytest

import quackllm
from quackllm.engine.providers.embedded import model_path

pytestmark = [pytest.mark.local_model, pytest.mark.slow]

STATEMENT = """
    SELECT i, LLM_FILTER('good?', synopsis, review)
    FROM (SELECT i, 'Film ' || (i * 7 % 6) || repeat(' a long story of love', 12) AS synopsis,
                 'review number ' || i AS review FROM range(48) r(i))
    ORDER BY i
"""


def server() -> Any:
    xllamacpp = pytest.importorskip("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model_path(None))
    parameters.n_ctx, parameters.n_parallel, parameters.verbosity = 1024, 1, -1
    parameters.warmup = False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(parameters)


def run(count: int) -> tuple[list[Any], tuple[int, int, int]]:
    """Return the rows, and calls, prompt tokens and cached tokens, on so many new servers."""
    servers = [server() for _ in range(count)]
    addresses = [f"{one.listening_address}/v1" for one in servers]
    with quackllm.connect(
        base_url=", ".join(addresses), cache_path=":memory:", progress=False
    ) as con:
        rows = con.execute(STATEMENT).fetchall()
        [told] = con.execute(
            "SELECT calls, prompt_tokens, cached_tokens FROM llm_queries() WHERE calls > 0"
        ).fetchall()
    return rows, told


def test_rows_are_the_same_and_so_is_nearly_all_reuse() -> None:
    rows, (calls, prompt, cached) = run(1)
    shared, (calls_of_both, prompt_of_both, cached_by_both) = run(2)
    assert shared == rows
    assert (calls_of_both, prompt_of_both) == (calls, prompt)
    assert cached_by_both >= 0.95 * cached > 0
