"""Servers that are wrong, odd or in trouble: right rows, or an error that says what to do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.providers import same_model
from quackllm.engine.providers.base import Reply, Request, Usage
from quackllm.errors import ModelNotFound, ModelReplaced, ServerUnreachable
from quackllm.testing import FakeServer
from quackllm.udfs.base import Choice
from tests.engine.when_called import when_called

LONG = [" ".join([f"reason number {n}"] * 40) for n in range(3)]
SHARED = ["New", "New York", "New Jersey", "Newark"]
FOREIGN = ["положительный", "отрицательный", "负面", "正面", "סביר", "😀", "ça va"]


def connect(server: FakeServer, **settings: Any) -> Connection:
    told: dict[str, Any] = {"cache_path": ":memory:", "progress": False, **settings}
    return quackllm.connect(base_url=server.base_url, **told)


@pytest.mark.parametrize("model", ["m", None])
def test_an_address_without_the_api_says_how_an_address_ends(model: str | None) -> None:
    with FakeServer() as server:
        con = quackllm.connect(
            base_url=server.base_url.removesuffix("/v1"), model=model, progress=False
        )
        with con, pytest.raises(ModelNotFound, match="usually ends in /v1"):
            con.execute("SELECT LLM('x', 'y')")


@pytest.mark.parametrize("address", ["localhost:8000/v1", "127.0.0.1:8000/v1"])
def test_an_address_in_the_environment_without_http_says_how_an_address_begins(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with (
        quackllm.connect(model="m", progress=False) as con,
        pytest.raises(ServerUnreachable, match=r"OPENAI_BASE_URL is .* begins with http://"),
    ):
        con.execute("SELECT LLM('x', 'y')")


@pytest.mark.parametrize("flavor", ["openai", "vllm", "llama.cpp", "ollama"])
def test_a_row_of_20_000_tokens_in_a_window_of_8k_is_null_and_told(flavor: Any) -> None:
    with FakeServer(flavor=flavor, context_window=8192) as server, connect(server) as con:
        found = con.execute(
            "SELECT n, LLM_FILTER('good?', repeat('four', n)) IS NULL "
            "FROM (VALUES (10), (20000), (30)) v(n) ORDER BY n"
        ).fetchall()
        assert found == [(10, False), (30, False), (20000, True)]
        [(cause, message)] = con.execute("SELECT cause, message FROM llm_errors()").fetchall()
    assert cause == "context window exceeded"
    assert "8192" in message


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("LLM_FILTER('good?', n)", "Certainly! I would say that it is rather good."),
        ("LLM_CLASSIFY(n, ['red', 'green'])", "It might be red or green."),
        ("LLM_SCORE('how good?', n)", "a solid eight"),
        ("LLM_EXTRACT(n, {'price': 'DOUBLE'})", "the price is not stated"),
    ],
)
def test_a_server_that_ignores_constraints_gives_null_and_a_record(call: str, said: str) -> None:
    with FakeServer(flavor="vllm", answer=lambda _: said) as server, connect(server) as con:
        assert con.execute(f"SELECT {call} FROM range(3) r(n)").fetchall() == [(None,)] * 3
        causes = con.execute("SELECT cause, count(*) FROM llm_errors() GROUP BY 1").fetchall()
    assert causes == [("invalid answer", 3)]


@pytest.mark.parametrize("cached", [-5, 10**9, None])
def test_a_wrong_report_of_cached_tokens_counts_as_none(cached: int | None) -> None:
    def answer(_: Request) -> Reply:
        return Reply("yes", Usage(50, 1, cached))

    with (
        FakeServer(flavor="vllm", answer=answer, counts_cached=cached is not None) as server,
        connect(server, input_price=1, output_price=1, cached_input_price=0.1) as con,
    ):
        rows = con.execute("SELECT LLM_FILTER('good?', n) FROM range(4) r(n)").fetchall()
        assert rows == [(True,)] * 4
        told = con.execute(
            "SELECT prompt_tokens, cached_tokens, cost FROM llm_queries()"
        ).fetchall()
    assert told == [(200, None, pytest.approx(204e-6))]


def test_a_vllm_that_reports_no_cached_tokens_is_told_the_flag_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.INFO, "quackllm"),
        FakeServer(flavor="vllm", counts_cached=False) as server,
        connect(server) as con,
    ):
        con.execute("SELECT LLM_FILTER('good?', n) FROM range(20) r(n)").fetchall()
        assert "--enable-prompt-tokens-details" not in caplog.text
        con.execute("SELECT LLM_FILTER('good?', n) FROM range(100, 200) r(n)").fetchall()
    assert caplog.text.count("--enable-prompt-tokens-details") == 1


def test_closed_metrics_leave_the_cache_unknown_and_the_rows_right() -> None:
    with (
        FakeServer(flavor="vllm", metrics=None) as server,
        FakeServer(flavor="vllm", metrics="# nothing of interest") as other,
    ):
        rows = []
        for each in (server, other):
            with connect(each) as con:
                rows.append(
                    con.execute("SELECT LLM('x', n) FROM range(20) r(n) ORDER BY n").fetchall()
                )
                shown = con.execute("SELECT prefix_granularity, cache_tokens FROM llm_models()")
                assert shown.fetchall() == [(None, None)]
        assert rows[0] == rows[1]


def label_of_row(labels: list[str]) -> Callable[[Request], Reply]:
    """Say the label whose number stands in the row, a character per token, as a model would."""

    def answer(request: Request) -> Reply:
        whole = labels[int("".join(filter(str.isdigit, request.fields)))]
        assert not isinstance(request.answer, Choice) or whole in request.answer.labels
        if not isinstance(request.answer, Choice):  # asked for in a JSON document
            return Reply(f'{{"answer": "{whole}"}}', Usage(10, 10))
        said = whole[: request.max_tokens]
        return Reply(said, Usage(10, len(said)), truncated=request.max_tokens <= len(whole))

    return answer


@pytest.mark.parametrize("flavor", ["vllm", "llama.cpp", "openai"])
@pytest.mark.parametrize("labels", [LONG, SHARED, FOREIGN], ids=["long", "shared", "foreign"])
def test_odd_labels_come_back_as_they_are(flavor: Any, labels: list[str]) -> None:
    with (
        FakeServer(flavor=flavor, answer=label_of_row(labels)) as server,
        connect(server) as con,
    ):
        listed = ", ".join(f"'{label}'" for label in labels)
        rows = con.execute(
            f"SELECT n, LLM_CLASSIFY('item ' || n, [{listed}]) "
            f"FROM range({len(labels)}) r(n) ORDER BY n"
        ).fetchall()
        errors = con.execute("SELECT message FROM llm_errors()").fetchall()
    assert errors == []
    assert rows == list(enumerate(labels))


@pytest.mark.parametrize("labels", [LONG, SHARED, FOREIGN], ids=["long", "shared", "foreign"])
def test_odd_labels_of_a_small_model_are_answered_with_one_of_them(labels: list[str]) -> None:
    listed = ", ".join(f"'{label}'" for label in labels)
    with FakeServer(flavor="vllm", models=("tiny-135m",)) as server, connect(server) as con:
        rows = con.execute(
            f"SELECT LLM_CLASSIFY('item ' || n, [{listed}]) FROM range(20) r(n)"
        ).fetchall()
        errors = con.execute("SELECT message FROM llm_errors()").fetchall()
    assert errors == []
    assert {label for (label,) in rows} <= set(labels)
    assert len({label for (label,) in rows}) > 1, "they depend on the row"


QUESTION = "SELECT n, LLM_FILTER('good?', n) FROM range(120) r(n) ORDER BY n"


@pytest.mark.parametrize("flavor", ["vllm", "llama.cpp"])
def test_a_server_that_restarts_in_the_middle_changes_no_row(flavor: Any) -> None:
    with FakeServer(flavor=flavor) as server, connect(server) as con:
        expected = con.execute(QUESTION).fetchall()

    def restart() -> None:
        server.close()
        time.sleep(0.3)
        server.reopen()

    with FakeServer(flavor=flavor, latency=0.02) as server, connect(server) as con:
        restarting = when_called(server, 40, restart)
        rows = con.execute(QUESTION).fetchall()
        restarting.join()
        [(calls, failures)] = con.execute(
            "SELECT calls, failures FROM llm_queries() WHERE calls > 0"
        ).fetchall()
    assert rows == expected
    assert (calls, failures) == (120, 0)


def test_a_server_that_comes_back_without_the_model_stops_the_statement_and_keeps_answers() -> None:
    with FakeServer(flavor="vllm", latency=0.02) as server, connect(server, concurrency=4) as con:

        def forget() -> None:
            server.models = ("another-model",)

        forgetting = when_called(server, 40, forget)
        with pytest.raises(ModelNotFound, match="no longer serves 'fake-model'"):
            con.execute(QUESTION).fetchall()
        forgetting.join()
        server.models = ("fake-model",)
        before = server.calls
        assert len(con.execute(QUESTION).fetchall()) == 120
        assert server.calls - before < 100, "what was answered is not asked again"


def test_other_weights_under_the_same_name_stop_the_statement_and_are_asked_by_the_next() -> None:
    with FakeServer(flavor="vllm", latency=0.02) as server, connect(server, concurrency=4) as con:

        def swap() -> None:
            server.root = "other-weights"

        swapping = when_called(server, 40, swap)
        with pytest.raises(ModelReplaced, match=r"'fake-model' at http.* is another"):
            con.execute(QUESTION).fetchall()
        swapping.join()
        before = server.calls
        assert len(con.execute(QUESTION).fetchall()) == 120
        assert server.calls - before == 120, "no answer is taken for one of the new model"
        server.root = "fake-weights"
        with pytest.raises(ModelReplaced):
            con.execute("SELECT LLM_FILTER('bad?', n) FROM range(3) r(n)").fetchall()
        before = server.calls
        assert len(con.execute(QUESTION).fetchall()) == 120
        assert server.calls - before < 100, "those of the first one are its own again"


def test_a_server_that_says_its_model_in_other_words_only_after_a_restart_goes_on() -> None:
    """Another version or other flags have another fingerprint, and the same weights."""
    with FakeServer(flavor="vllm", latency=0.02) as server, connect(server, concurrency=4) as con:

        def update() -> None:
            server.version = "0.33.0"

        updating = when_called(server, 40, update)
        assert len(con.execute(QUESTION).fetchall()) == 120
        updating.join()
        asked = [one.path for one in server.received if one.method == "GET"]
        assert asked.count("/v1/models") == 2, "at the beginning and at the new fingerprint"


def test_a_name_that_is_gone_is_not_held_on_to_where_nobody_chose_it() -> None:
    with FakeServer(flavor="vllm") as server, connect(server) as con:
        con.execute(QUESTION).fetchall()
        server.models = ("another-model",)
        with pytest.raises(ModelNotFound, match="Run the statement again"):
            con.execute("SELECT LLM_FILTER('bad?', 1)").fetchall()
        assert con.execute("SELECT LLM_FILTER('bad?', 1)").fetchall() != [(None,)]
        [(model,)] = con.execute("SELECT model FROM llm_models()").fetchall()
    assert model == "another-model"


def test_vectors_of_another_model_are_not_mixed_with_those_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with FakeServer(flavor="vllm") as server, connect(server) as con:
        con.execute("SET llm_embedding_model = 'fake-model'")
        con.execute("SELECT LLM_EMBED('text ' || n) FROM range(5) r(n)").fetchall()
        server.root = "other-weights"
        # As if it had been silent for so long: embeddings have no fingerprint.
        monkeypatch.setattr(same_model, "LONGEST_PAUSE", 0.0)
        with pytest.raises(ModelReplaced):
            con.execute("SELECT LLM_EMBED('word ' || n) FROM range(5) r(n)").fetchall()
        before = server.calls
        con.execute("SELECT LLM_EMBED('text ' || n) FROM range(5) r(n)").fetchall()
        assert server.calls > before, "no vector is taken for one of the new model"


def test_an_embedding_model_that_is_gone_is_asked_for_again_by_the_next_statement() -> None:
    with FakeServer(flavor="vllm") as server, connect(server, embedding_model="fake-model") as con:
        con.execute("SELECT LLM_EMBED('text ' || n) FROM range(5) r(n)").fetchall()
        server.models = ("another-model",)
        with pytest.raises(ModelNotFound, match="no longer serves 'fake-model'"):
            con.execute("SELECT LLM_EMBED('word')").fetchall()
        with pytest.raises(ModelNotFound, match="it serves: 'another-model'"):
            con.execute("SELECT LLM_EMBED('word')").fetchall()
