"""Several endpoints for one model: same rows and accounts, groups together, one may go away."""

from __future__ import annotations

import itertools
import operator
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.errors import ModelNotFound, NotOnThisMachine, ServerUnreachable, SettingError
from quackllm.testing import FakeServer
from quackllm.testing.server import Received

ROWS, FILMS = 240, 12
STATEMENT = "SELECT id FROM t WHERE LLM_FILTER('good?', synopsis, review) ORDER BY id"


@pytest.fixture
def servers() -> Iterator[list[FakeServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FakeServer(flavor="vllm")) for _ in range(3)]


def connect(*servers: FakeServer, **settings: Any) -> Connection:
    addresses = ", ".join(server.base_url for server in servers)
    told: dict[str, Any] = {"cache_path": ":memory:", "progress": False, **settings}
    con = quackllm.connect(base_url=addresses, **told)
    con.execute(
        f"CREATE TABLE t AS SELECT i AS id, 'Film ' || (i * 7 % {FILMS}) "
        f"|| repeat(' story', 20) AS synopsis, 'review ' || i AS review FROM range({ROWS}) r(i)"
    )
    return con


def asked_of(server: FakeServer) -> list[Received]:
    """Return the questions that a server got, without what it was asked about itself."""
    return [request for request in server.received if request.path == "/v1/chat/completions"]


def films(server: FakeServer) -> set[str]:
    return {
        film
        for request in asked_of(server)
        for film in re.findall(r"Film \d+", str(request.body["messages"]))
    }


def accounts(con: Connection) -> list[Any]:
    rows: list[Any] = con.execute(
        "SELECT calls, prompt_tokens, completion_tokens, failures FROM llm_queries() "
        "WHERE calls > 0"
    ).fetchall()
    return rows


def test_rows_and_accounts_are_those_of_one_endpoint(servers: list[FakeServer]) -> None:
    with connect(*servers) as several, connect(servers[0]) as one:
        assert several.execute(STATEMENT).fetchall() == one.execute(STATEMENT).fetchall()
        assert accounts(several) == accounts(one)


def test_every_row_is_asked_once_and_every_endpoint_works(servers: list[FakeServer]) -> None:
    with connect(*servers) as con:
        con.execute(STATEMENT).fetchall()
    assert sum(server.calls for server in servers) == ROWS
    assert min(server.calls for server in servers) >= ROWS / 10


def test_a_prefix_group_stays_on_one_endpoint_but_for_what_balances(
    servers: list[FakeServer],
) -> None:
    with connect(*servers, concurrency=4) as con:
        con.execute(STATEMENT).fetchall()
    places: defaultdict[str, int] = defaultdict(int)
    for server in servers:
        for film in films(server):
            places[film] += 1
    assert len(places) == FILMS
    assert sum(places.values()) <= FILMS + len(servers)


def test_few_rows_keep_every_endpoint_busy_and_their_groups_whole(
    servers: list[FakeServer],
) -> None:
    few = STATEMENT.replace("WHERE", "WHERE id < 30 AND")
    with connect(*servers[:2]) as con:
        con.execute(few).fetchall()
    calls = [server.calls for server in servers[:2]]
    assert sum(calls) == 30
    assert min(calls) >= 10, "of 64 calls that each could take at once"
    assert films(servers[0]).isdisjoint(films(servers[1]))


def reused(server: FakeServer) -> int:
    """Return the characters of its prompts that a server with room for all computes once."""
    prompts = sorted(
        "".join(message["content"] for message in request.body["messages"])
        for request in asked_of(server)
    )
    return sum(
        sum(itertools.takewhile(bool, map(operator.eq, *pair)))
        for pair in itertools.pairwise(prompts)
    )


def test_two_endpoints_reuse_what_one_would(servers: list[FakeServer]) -> None:
    alone, *both = servers
    for chosen in ([alone], both):
        with connect(*chosen, concurrency=4) as con:
            con.execute(STATEMENT).fetchall()
    assert min(server.calls for server in both) >= ROWS / 4
    assert sum(map(reused, both)) >= 0.95 * reused(alone)


def test_a_limit_of_requests_per_minute_holds_at_each_endpoint(servers: list[FakeServer]) -> None:
    with connect(*servers, requests_per_minute=1200) as con:
        began = time.monotonic()
        con.execute(STATEMENT).fetchall()
        seconds = time.monotonic() - began
    for server in servers:
        assert server.calls <= 20 * (seconds + 1.5)


def test_a_statement_that_is_interrupted_sends_nothing_more_anywhere() -> None:
    with ExitStack() as stack:
        two = [stack.enter_context(FakeServer(flavor="vllm", latency=0.2)) for _ in range(2)]
        con = stack.enter_context(connect(*two, concurrency=4))
        threading.Timer(1.0, con.interrupt).start()
        with pytest.raises(duckdb.InterruptException):
            con.execute(STATEMENT).fetchall()
        time.sleep(0.5)  # what was on its way is counted when it arrives
        calls = [server.calls for server in two]
        assert 0 < sum(calls) < ROWS
        time.sleep(0.5)
        assert [server.calls for server in two] == calls
        assert sum(server.abandoned for server in two) > 0


def die_working(server: FakeServer) -> None:
    while server.calls < ROWS / 10:
        time.sleep(0.005)
    server.close()


def test_an_endpoint_that_dies_in_the_middle_leaves_its_work_to_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with FakeServer(flavor="vllm", latency=0.02) as stays, connect(stays) as alone:
        expected = alone.execute(STATEMENT).fetchall()
        with FakeServer(flavor="vllm", latency=0.02) as dies:
            con = connect(stays, dies, concurrency=4, reconnect_timeout=0.5)
            threading.Thread(target=die_working, args=(dies,)).start()
            assert con.execute(STATEMENT).fetchall() == expected
            assert 0 < dies.calls < ROWS / 2, "it died too early or too late"
            assert accounts(con)[0][0] == ROWS
            assert con.execute("FROM llm_errors()").fetchall() == []
            assert "the others take its calls over" in caplog.text
            con.close()


def test_when_all_have_gone_the_statement_stops_and_says_so(servers: list[FakeServer]) -> None:
    with connect(*servers, reconnect_timeout=0.5, concurrency=2) as con:
        con.execute("SELECT LLM_FILTER('good?', 'x')").fetchall()
        for server in servers:
            server.close()
        with pytest.raises(ServerUnreachable, match="0 of 240 questions"):
            con.execute(STATEMENT)


def test_a_budget_of_calls_is_kept_over_all_endpoints(servers: list[FakeServer]) -> None:
    with connect(*servers, max_calls=50, on_budget="partial") as con:
        con.execute(STATEMENT).fetchall()
    assert sum(server.calls for server in servers) == 50


def test_one_that_cannot_be_reached_at_first_is_left_out(servers: list[FakeServer]) -> None:
    servers[0].close()
    with connect(*servers) as con:
        con.execute(STATEMENT).fetchall()
        assert len(con.execute("FROM llm_models()").fetchall()) == 2
    assert servers[1].calls + servers[2].calls == ROWS


def test_answers_are_kept_whichever_endpoint_is_there(
    servers: list[FakeServer], tmp_path: Any
) -> None:
    path = str(tmp_path / "answers.db")
    with connect(*servers, cache_path=path) as con:
        expected = con.execute(STATEMENT).fetchall()
    servers[0].close()
    with connect(*servers, cache_path=path) as con:
        assert con.execute(STATEMENT).fetchall() == expected
    assert sum(server.calls for server in servers) == ROWS


def test_create_model_takes_several_addresses(servers: list[FakeServer]) -> None:
    with connect(servers[0]) as con:
        addresses = ",".join(server.base_url for server in servers[1:])
        con.execute(f"CREATE MODEL m (model 'fake-model', base_url '{addresses}')")
        con.execute(STATEMENT.replace("review)", "review, model := 'm')")).fetchall()
    assert servers[0].calls == 0
    assert min(servers[1].calls, servers[2].calls) > 0


def test_a_list_of_addresses_can_be_set_and_is_shown(servers: list[FakeServer]) -> None:
    first, second = servers[0].base_url, servers[1].base_url
    with connect(servers[2]) as con:
        con.execute(f"SET llm_base_url = ['{first}', '{second}']")
        shown = con.execute("SELECT current_setting('llm_base_url')").fetchall()
        assert shown == [(f"{first}, {second}",)]
        with pytest.raises(SettingError, match="must be an address"):
            con.execute(f"SET llm_base_url = '{first}, http://here:99999/v1'")


def test_offline_holds_for_every_address(servers: list[FakeServer]) -> None:
    con = quackllm.connect(
        base_url=f"{servers[0].base_url}, http://elsewhere.example/v1", offline=True
    )
    with con, pytest.raises(NotOnThisMachine, match="elsewhere"):
        con.execute("SELECT LLM_FILTER('good?', 'x')")


def test_a_secret_goes_to_the_address_of_its_scope_alone() -> None:
    with FakeServer(api_key="sk-one-1234567") as one, FakeServer() as other:
        with connect(one, other) as con:
            con.execute(
                f"CREATE SECRET s (TYPE openai, KEY 'sk-one-1234567', SCOPE '{one.base_url}')"
            )
            con.execute(STATEMENT).fetchall()
        sent = {request.headers["authorization"] for request in other.received}
        assert other.calls > 0
        assert not any("sk-one" in header for header in sent)


def test_different_models_are_an_error_that_names_them() -> None:
    with FakeServer(models=("small",)) as one, FakeServer(models=("large",)) as other:
        con = connect(one, other)
        with con, pytest.raises(ModelNotFound, match="large, small"):
            con.execute("SELECT LLM_FILTER('good?', 'x')")


def test_a_router_gets_a_header_that_is_the_same_for_rows_with_one_prefix() -> None:
    with FakeServer(flavor="vllm") as router:
        with connect(router, session_header="x-session-id") as con:
            con.execute(STATEMENT).fetchall()
        asked = asked_of(router)
        by_film: defaultdict[str, set[str]] = defaultdict(set)
        for request in asked:
            [film] = set(re.findall(r"Film \d+", str(request.body["messages"])))
            by_film[film].add(request.headers["x-session-id"])
        assert len(by_film) == FILMS
        assert all(len(ids) == 1 for ids in by_film.values())
        assert len(set.union(*by_film.values())) == FILMS


def test_a_header_that_is_none_is_refused() -> None:
    with quackllm.connect() as con, pytest.raises(SettingError, match="name of an HTTP header"):
        con.execute("SET llm_session_header = 'x: y'")


def test_a_second_question_about_a_row_goes_where_the_first_one_went(
    servers: list[FakeServer],
) -> None:
    questions = "LLM_FILTER('good?', synopsis, review), LLM_FILTER('is it long?', synopsis, review)"
    with connect(*servers[:2], row_first=True, concurrency=4) as con:
        con.execute(f"SELECT {questions} FROM t").fetchall()
    asked: list[tuple[str, int]] = [
        (found[0], place)
        for place, server in enumerate(servers[:2])
        for request in asked_of(server)
        if (found := re.findall(r"review \d+", str(request.body.get("messages"))))
    ]
    assert len(asked) == 2 * ROWS
    assert len(set(asked)) <= 1.2 * ROWS
