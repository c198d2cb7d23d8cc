"""dbt's postgres adapter: models, tests, seeds, snapshots and documentation with LLM columns.

What a build asks of the model is counted: each question once, nothing when nothing is new.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from quackllm.testing import FakeServer
from tests.clients.serving import served

HERE = Path(__file__).parent
DBT = Path(os.environ.get("QUACKLLM_DBT", HERE.parents[2] / ".venv-dbt" / "bin" / "dbt"))
pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(not DBT.exists(), reason="dbt is not installed (make clients)"),
]

TEXTS = 4
"""Different reviews in the seed; one of them is there twice."""


@dataclass(frozen=True)
class Project:
    """A dbt project in a folder of its own, and the server that it builds in."""

    folder: Path
    address: str
    model: FakeServer

    def dbt(self, *arguments: str) -> dict[str, Any]:
        """Run dbt; return the number of model calls and, by name, what became of the nodes."""
        before = self.model.calls
        done = subprocess.run(
            [DBT.absolute(), "--no-use-colors", *arguments],
            cwd=self.folder,
            env={**os.environ, "QUACKLLM_PORT": self.address.rpartition(":")[2],
                 "DBT_PROFILES_DIR": ".", "DO_NOT_TRACK": "1"},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        results = json.loads((self.folder / "target" / "run_results.json").read_text())
        status = {one["unique_id"].split(".")[2]: one["status"] for one in results["results"]}
        return {"calls": self.model.calls - before, "status": status}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Query what was built."""
        host, _, port = self.address.rpartition(":")
        with psycopg.connect(host=host, port=int(port), user="me", dbname="shop") as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("dbt")
    shutil.copytree(HERE / "project", folder / "project")
    with FakeServer() as model, served(model, folder) as address:
        yield Project(folder / "project", address, model)


@pytest.fixture(scope="module")
def built(project: Project) -> dict[str, Any]:
    return project.dbt("build")


def test_everything_is_built_and_tested(built: dict[str, Any]) -> None:
    assert Counter(built["status"].values()) == {"success": 6, "pass": 6}


def test_each_question_is_asked_once(built: dict[str, Any]) -> None:
    """classified has two LLM columns, summaries one; a view asks when it is read."""
    assert built["calls"] == 3 * TEXTS


def test_a_table_has_the_answers(project: Project, built: dict[str, Any]) -> None:
    rows = project.rows("SELECT topic, satisfied FROM analytics.classified ORDER BY id")
    assert len(rows) == 5
    assert {topic for topic, _ in rows} <= {"price", "quality", "delivery"}
    assert all(0 <= satisfied <= 1 for _, satisfied in rows)
    assert rows[0] == rows[3], "the same review, the same answer"


def test_a_model_on_a_model_counts_them(project: Project, built: dict[str, Any]) -> None:
    assert project.rows("SELECT sum(reviews) FROM analytics.topics") == [(5,)]


def test_a_view_asks_when_it_is_read(project: Project, built: dict[str, Any]) -> None:
    before = project.model.calls
    complaints = project.rows("SELECT * FROM analytics.complaints")
    assert project.model.calls - before == TEXTS
    assert project.rows("SELECT * FROM analytics.complaints") == complaints
    assert project.model.calls - before == TEXTS


def test_descriptions_are_kept_as_comments(project: Project, built: dict[str, Any]) -> None:
    assert project.rows("SELECT obj_description('analytics.classified'::regclass)") == [
        ("Reviews with what they are about.",)
    ]


def test_documentation_is_generated_without_a_call(project: Project, built: dict[str, Any]) -> None:
    assert project.dbt("docs", "generate")["calls"] == 0
    catalog = json.loads((project.folder / "target" / "catalog.json").read_text())
    assert catalog["errors"] is None
    found = {node["metadata"]["name"]: node for node in catalog["nodes"].values()}
    assert found["complaints"]["metadata"]["type"] == "VIEW"
    assert found["classified"]["metadata"]["type"] == "BASE TABLE"
    assert found["classified"]["metadata"]["comment"] == "Reviews with what they are about."
    columns = found["classified"]["columns"]
    assert {name: one["type"] for name, one in columns.items()} == {
        "id": "integer", "product": "text", "written": "date", "topic": "text",
        "satisfied": "double precision",
    }  # fmt: skip


def test_preview_and_compile_call_nothing_but_for_rows(
    project: Project, built: dict[str, Any]
) -> None:
    assert project.dbt("compile")["calls"] == 0
    assert project.dbt("show", "--select", "classified", "--limit", "2")["calls"] == 0


def test_a_second_build_asks_nothing_and_a_new_row_only_its_own_questions(
    project: Project, built: dict[str, Any]
) -> None:
    again = project.dbt("build")
    assert again["calls"] == 0
    assert Counter(again["status"].values()) == {"success": 6, "pass": 6}
    with (project.folder / "seeds" / "raw_reviews.csv").open("a") as seed:
        seed.write("6,kettle,It whistles.,2026-03-01\n")
    assert project.dbt("build")["calls"] == 3
    assert project.rows("SELECT count(*) FROM analytics.summaries") == [(6,)]
    assert project.rows("SELECT count(*) FROM analytics.topics_over_time") == [(6,)]


def test_a_snapshot_keeps_what_was(project: Project, built: dict[str, Any]) -> None:
    project.dbt("build")
    count = "SELECT count(*), count(dbt_valid_to) FROM analytics.topics_over_time"
    [(before, ended)] = project.rows(count)
    model = project.folder / "models" / "classified.sql"
    model.write_text(model.read_text().replace("llm_classify(", "upper('price') || llm_classify("))
    project.dbt("run", "--select", "classified")
    project.dbt("snapshot")
    assert project.rows(count) == [(2 * before - ended, before)]


def test_a_model_that_fails_says_why_and_leaves_the_table(
    project: Project, built: dict[str, Any]
) -> None:
    (project.folder / "models" / "topics.sql").write_text("select nothing_of_this from somewhere")
    with pytest.raises(AssertionError, match="somewhere"):
        project.dbt("run", "--select", "topics")
    assert project.rows("SELECT count(*) > 0 FROM analytics.topics") == [(True,)]
