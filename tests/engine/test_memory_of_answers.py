"""The cache of answers, and the record of what happened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.cache import MemoryCache, Question
from quackllm.engine.history import PREVIEW, StageStats, StatementStats, failure_of
from quackllm.engine.providers.base import Usage

QUESTION = Question("identity", "endpoint", "model")


def test_an_answer_is_found_under_its_whole_question_only() -> None:
    cache = MemoryCache()
    cache.put(QUESTION, "k", "v")
    assert cache.get(QUESTION, ["k", "other"]) == {"k": "v"}
    for other in (
        Question("another", "endpoint", "model"),
        Question("identity", "another", "model"),
        Question("identity", "endpoint", "another"),
    ):
        assert cache.get(other, ["k"]) == {}


def test_null_is_an_answer() -> None:
    cache = MemoryCache()
    cache.put(QUESTION, "k", None)
    assert cache.get(QUESTION, ["k"]) == {"k": None}


def test_the_least_recently_used_answer_goes_first() -> None:
    cache = MemoryCache(capacity=2)
    cache.put(QUESTION, "a", "1")
    cache.put(QUESTION, "b", "2")
    cache.get(QUESTION, ["a"])
    cache.put(QUESTION, "c", "3")
    assert cache.get(QUESTION, ["a", "b", "c"]) == {"a": "1", "c": "3"}
    assert len(cache) == 2


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.text()), max_size=30), st.integers(1, 8))
def test_the_cache_never_outgrows_its_capacity_nor_answers_wrongly(
    puts: list[tuple[str, str]], capacity: int
) -> None:
    cache = MemoryCache(capacity)
    latest: dict[str, str] = {}
    for key, answer in puts:
        cache.put(QUESTION, key, answer)
        latest[key] = answer
        assert len(cache) <= capacity
    found = cache.get(QUESTION, "abcdef")
    assert all(latest[key] == answer for key, answer in found.items())
    assert len(found) == min(capacity, len(latest))


def test_the_cache_is_used_from_several_threads() -> None:
    cache = MemoryCache(capacity=50)

    def work(number: int) -> bool:
        for i in range(500):
            cache.put(QUESTION, f"{(i * number) % 70}", "x")
            cache.get(QUESTION, [f"{i % 70}"])
        return len(cache) <= 50

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(1, 5)))


def test_totals_of_a_statement_are_those_of_its_stages() -> None:
    stats = StatementStats(1, "SELECT 1", 0.0)
    assert stats.summary().startswith("0 calls")
    for number in (1, 2):
        stage = StageStats(number, "llm", "m", "e", tuples=5, cached=2, calls=3)
        stage.add(Usage(10, 4))
        stage.add(Usage(10, 4, cached_tokens=7))
        stage.failures["timeout"] += number
        stats.stages[str(number)] = stage
    assert (stats.calls, stats.tuples, stats.cached) == (6, 10, 4)
    assert (stats.prompt_tokens, stats.completion_tokens, stats.cached_tokens) == (40, 16, 14)
    assert stats.failures == {"timeout": 3}
    for words in ("6 calls", "4 answered from cache", "40 tokens in (14 cached)", "3 timeout"):
        assert words in stats.summary()


def test_a_failure_shows_the_beginning_of_its_row_and_tells_rows_apart() -> None:
    def failure(fields: str) -> tuple[str, str]:
        stage = StageStats(1, "llm", "m", "fake")
        made = failure_of(1, stage, "cause", "message", fields, attempts=1)
        return made.preview, made.fields_hash

    long = "x" * 1000
    assert failure("short")[0] == "short"
    assert len(failure(long)[0]) == PREVIEW and failure(long)[0].endswith("…")
    assert failure(long)[1] != failure(long + "y")[1]
    assert failure(long)[1] == failure(long)[1]
    failure("\ud800 half a character")
