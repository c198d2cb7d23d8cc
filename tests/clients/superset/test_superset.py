"""Superset, headless: databases, SQL Lab, datasets and charts with LLM columns (`make superset-check`).

What Superset shows is compared with what the engine answers in process, and each step is held
to the number of model calls that it may make: none for anything but rows, none for a refresh.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import quackllm
from quackllm.testing import FakeServer
from tests.clients.serving import served

PYTHON = os.environ.get("QUACKLLM_SUPERSET_PYTHON")
pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(PYTHON is None, reason="Superset is not installed (make superset-check)"),
]

HERE = Path(__file__).parent
REVIEWS = 40
TOPICS = 10
"""Different texts among the reviews: what a question about all of them asks at most."""

TABLES = f"""
CREATE TABLE reviews (id INTEGER PRIMARY KEY, product VARCHAR, body VARCHAR, written DATE);
INSERT INTO reviews SELECT i, ['kettle', 'lamp'][i % 2 + 1], 'Review number ' || i % {TOPICS},
    DATE '2026-01-01' + i::INTEGER FROM range({REVIEWS}) r(i);
"""
CLASSIFIED = """SELECT id, product, written,
    LLM_CLASSIFY(body, ['price', 'quality', 'delivery']) AS topic,
    LLM_SCORE('How satisfied is the writer?', body) AS satisfied
FROM reviews"""
VIEW = f"CREATE VIEW classified AS {CLASSIFIED}"


class Superset:
    """Superset in a process of its own; `ask` sends it a request as a browser would."""

    def __init__(self, home: Path) -> None:
        environment = {
            **os.environ,
            "SUPERSET_HOME": str(home),
            "SUPERSET_CONFIG_PATH": str(HERE / "superset_config.py"),
        }
        assert PYTHON is not None
        self._log = (home / "superset.log").open("w")
        self._process = subprocess.Popen(
            [Path(PYTHON).absolute(), HERE / "requests_of_superset.py"], cwd=home, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        self._answer()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to the API; return the JSON of its answer, which is no error."""
        assert self._process.stdin is not None
        path = path if path.startswith("/") else f"/api/v1/{path}"
        request = {"method": method, "path": path, "json": body}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._answer()
        assert answer["status"] < 300, answer
        return answer["body"]

    def rows(self, sql: str, database: int) -> list[dict[str, Any]]:
        """Run a statement in SQL Lab."""
        body = {"database_id": database, "sql": sql, "schema": "main", "runAsync": False}
        answer = self.ask("POST", "sqllab/execute/", body)
        assert answer["status"] == "success"
        found: list[dict[str, Any]] = answer["data"]
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._log.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"Superset ended; see {self._log.name}"
        return json.loads(line)


@dataclass(frozen=True)
class Check:
    """Superset, connected to a server over a fake model; database is its number there."""

    superset: Superset
    model: FakeServer
    database: int
    address: str

    @contextmanager
    def asks(self, calls: int) -> Iterator[None]:
        """Hold what is done inside to a number of model calls."""
        before = self.model.calls
        yield
        assert self.model.calls - before == calls


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Check]:
    folder = tmp_path_factory.mktemp("superset")
    with FakeServer() as model, served(model, folder, TABLES + VIEW) as address:
        superset = Superset(folder)
        try:
            body = {
                "database_name": "quackllm",
                "sqlalchemy_uri": f"postgresql+psycopg2://me@{address}/shop",
            }
            superset.ask("POST", "database/test_connection/", body)
            database = superset.ask("POST", "database/", body)["id"]
            assert model.calls == 0
            yield Check(superset, model, database, address)
        finally:
            superset.close()


@pytest.fixture(scope="module")
def expected(check: Check) -> list[dict[str, Any]]:
    """The rows of the view as the engine gives them in process, from the same model."""
    with quackllm.connect(
        base_url=check.model.base_url, model="fake-model", progress=False
    ) as connection:
        connection.execute(TABLES)
        found = connection.execute(f"SELECT * FROM ({CLASSIFIED}) ORDER BY id")
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@pytest.fixture(scope="module")
def dataset(check: Check) -> int:
    body = {"database": check.database, "schema": "main", "table_name": "classified"}
    with check.asks(0):
        number: int = check.superset.ask("POST", "dataset/", body)["id"]
    return number


def test_schemas_and_tables_are_listed_without_a_call(check: Check) -> None:
    with check.asks(0):
        schemas = check.superset.ask("GET", f"database/{check.database}/schemas/")
        assert set(schemas["result"]) >= {"main", "information_schema"}
        query = quote("(schema_name:main,force:!t)")
        tables = check.superset.ask("GET", f"database/{check.database}/tables/?q={query}")
    listed = {(one["value"], one["type"]) for one in tables["result"]}
    assert listed == {("reviews", "table"), ("classified", "view")}


@pytest.mark.parametrize("table", ["reviews", "classified"])
def test_a_table_is_described_without_a_call(check: Check, table: str) -> None:
    with check.asks(0):
        path = f"database/{check.database}/table_metadata/?name={table}&schema=main"
        described = check.superset.ask("GET", path)
    columns = {one["name"]: one["type"] for one in described["columns"]}
    assert next(iter(columns.items())) == ("id", "INTEGER")
    if table == "classified":
        assert columns["topic"] in ("TEXT", "VARCHAR")
        assert columns["satisfied"].startswith("DOUBLE")


def test_explain_in_sql_lab_calls_nothing(check: Check) -> None:
    with check.asks(0):
        plan = check.superset.rows(f"EXPLAIN {CLASSIFIED}", check.database)
    assert any("LLM_CLASSIFY" in line for row in plan for line in row.values())


def test_sql_lab_shows_answers_and_asks_once(check: Check) -> None:
    sql = "SELECT id, LLM_FILTER('Is it about price?', body) AS about_price FROM reviews"
    with check.asks(TOPICS):
        rows = check.superset.rows(sql, check.database)
    assert len(rows) == REVIEWS
    assert {row["about_price"] for row in rows} <= {True, False}
    with check.asks(0):
        assert check.superset.rows(sql, check.database) == rows


def test_sql_lab_limits_what_is_asked(check: Check) -> None:
    body = {
        "database_id": check.database, "schema": "main", "runAsync": False, "queryLimit": 3,
        "sql": "SELECT id, LLM('Summarize.', body) AS summary FROM reviews",
    }  # fmt: skip
    with check.asks(4):  # one more than is shown tells whether there are more
        assert len(check.superset.ask("POST", "sqllab/execute/", body)["data"]) == 3


def test_a_wrong_statement_says_what_is_wrong(check: Check) -> None:
    with pytest.raises(AssertionError, match="nowhere"), check.asks(0):
        check.superset.rows("SELECT * FROM nowhere", check.database)


def test_a_dataset_has_the_types_of_the_llm_columns(check: Check, dataset: int) -> None:
    with check.asks(0):
        found = check.superset.ask("GET", f"dataset/{dataset}")["result"]
        check.superset.ask("PUT", f"dataset/{dataset}/refresh")
    kinds = {one["column_name"]: (one["type_generic"], one["is_dttm"]) for one in found["columns"]}
    number, text, time = 0, 1, 2
    assert kinds["satisfied"] == (number, False)
    assert kinds["topic"] == (text, False)
    assert kinds["written"] == (time, True)


def chart_data(check: Check, dataset: int, query: dict[str, Any]) -> list[dict[str, Any]]:
    """What a chart asks for: the rows behind its drawing, not those of Superset's cache."""
    body = {
        "datasource": {"id": dataset, "type": "table"}, "queries": [query], "force": True,
        "result_format": "json", "result_type": "full",
    }  # fmt: skip
    [result] = check.superset.ask("POST", "chart/data", body)["result"]
    assert result["status"] == "success"
    rows: list[dict[str, Any]] = result["data"]
    return rows


TABLE_CHART = {
    "columns": ["id", "product", "topic", "satisfied"],
    "metrics": [],
    "orderby": [["id", True]],
    "row_limit": 1000,
}
BAR_CHART = {
    "columns": ["topic"],
    "metrics": ["count"],
    "orderby": [["count", False]],
    "row_limit": 100,
}
COUNT = {"label": "count", "expressionType": "SQL", "sqlExpression": "COUNT(*)"}


def test_a_table_chart_shows_the_view(
    check: Check, dataset: int, expected: list[dict[str, Any]]
) -> None:
    rows = chart_data(check, dataset, TABLE_CHART)
    assert rows == [{name: row[name] for name in TABLE_CHART["columns"]} for row in expected]  # type: ignore[attr-defined]
    with check.asks(0):
        assert chart_data(check, dataset, TABLE_CHART) == rows


def test_a_bar_chart_counts_by_what_the_model_says(
    check: Check, dataset: int, expected: list[dict[str, Any]]
) -> None:
    with check.asks(0):  # its answers are those of the table chart
        rows = chart_data(check, dataset, {**BAR_CHART, "metrics": [COUNT]})
    assert {row["topic"]: row["count"] for row in rows} == Counter(row["topic"] for row in expected)


def test_a_chart_filters_by_an_llm_column(
    check: Check, dataset: int, expected: list[dict[str, Any]]
) -> None:
    topic = expected[0]["topic"]
    chosen = {"filters": [{"col": "topic", "op": "==", "val": topic}]}
    with check.asks(0):
        rows = chart_data(check, dataset, {**TABLE_CHART, **chosen})
    assert [row["id"] for row in rows] == [row["id"] for row in expected if row["topic"] == topic]


def test_a_chart_averages_scores_by_month(
    check: Check, dataset: int, expected: list[dict[str, Any]]
) -> None:
    month = {
        "columnType": "BASE_AXIS", "sqlExpression": "written", "label": "written",
        "expressionType": "SQL", "timeGrain": "P1M",
    }  # fmt: skip
    mean = {"label": "mean", "expressionType": "SQL", "sqlExpression": "AVG(satisfied)"}
    with check.asks(0):
        rows = chart_data(check, dataset, {"columns": [month], "metrics": [mean], "row_limit": 100})
    january = [row["satisfied"] for row in expected if row["written"].month == 1]
    assert len(rows) == len({row["written"].month for row in expected})
    assert min(abs(row["mean"] - sum(january) / len(january)) for row in rows) < 1e-9


def test_a_saved_chart_is_drawn_from_its_own_query(check: Check, dataset: int) -> None:
    context = {
        "datasource": {"id": dataset, "type": "table"}, "force": False,
        "queries": [{**BAR_CHART, "metrics": [COUNT]}], "result_format": "json", "result_type": "full",
    }  # fmt: skip
    body = {
        "slice_name": "Topics", "viz_type": "echarts_timeseries_bar", "datasource_id": dataset,
        "datasource_type": "table", "params": json.dumps({"groupby": ["topic"]}),
        "query_context": json.dumps(context),
    }  # fmt: skip
    chart = check.superset.ask("POST", "chart/", body)["id"]
    with check.asks(0):
        [result] = check.superset.ask("GET", f"chart/{chart}/data/?force=true")["result"]
    assert sum(row["count"] for row in result["data"]) == REVIEWS


def test_a_virtual_dataset_with_a_call_is_charted(check: Check) -> None:
    sql = "SELECT id, LLM_SENTIMENT(body) AS mood FROM reviews"
    body = {"database": check.database, "schema": "main", "table_name": "moods", "sql": sql}
    with check.asks(1):  # Superset learns the types of a statement from its first row
        dataset = check.superset.ask("POST", "dataset/", body)["id"]
    query = {"columns": ["mood"], "metrics": [COUNT], "row_limit": 100}
    with check.asks(TOPICS - 1):
        rows = chart_data(check, dataset, query)
    assert sum(row["count"] for row in rows) == REVIEWS


def test_a_filter_of_a_dashboard_lists_the_answers(
    check: Check, dataset: int, expected: list[dict[str, Any]]
) -> None:
    with check.asks(0):
        values = check.superset.ask("GET", f"datasource/table/{dataset}/column/topic/values/")
    assert set(values["result"]) == {row["topic"] for row in expected}


def test_the_samples_of_a_dataset_ask_no_more_than_their_rows(check: Check, dataset: int) -> None:
    with check.asks(0):
        body: dict[str, Any] = {"filters": []}
        path = f"/datasource/samples?datasource_id={dataset}&datasource_type=table&per_page=5"
        samples = check.superset.ask("POST", path, body)["result"]["data"]
    assert len(samples) == 5
