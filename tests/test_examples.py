"""Every example runs, statement by statement, and gives rows of the shape its header states."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

import quackllm
from quackllm.engine.returning import cut_returning
from quackllm.engine.statement import explain_of, is_query, split
from quackllm.testing import FakeProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parent.parent / "sql_examples"
FILES = sorted(EXAMPLES.glob("*.sql"))


@dataclass(frozen=True)
class Shape:
    """Column names of a result, and how many rows it has at least and at most."""

    columns: tuple[str, ...]
    least: int = 0
    most: int = 1_000


def shape(columns: str, least: int = 0, most: int = 1_000) -> Shape:
    """Make a shape of names separated by spaces."""
    return Shape(tuple(columns.split()), least, most)


PLAN = shape("explain_key explain_value", 1, 1)

SHAPES: dict[str, list[Shape]] = {
    "01_first_filter.sql": [shape("review_id rating review", 0, 14)],
    "02_classify.sql": [shape("ticket_id body topic", 40, 40)],
    "03_labels_with_descriptions.sql": [shape("ticket_id channel subject queue", 5, 44)],
    "04_several_labels.sql": [shape("subject reviews", 1, 6)],
    "05_extract.sql": [shape("name material weight_kg waterproof", 5, 5)],
    "06_extract_lists_and_structs.sql": [shape("name part quantity washable", 1)],
    "07_score_and_sort.sql": [shape("ticket_id customer subject anger", 10, 10)],
    "08_summaries_languages_sentiment.sql": [
        shape("ticket_id characters summary", 1, 1),
        shape("ticket_id country subject in_english", 6, 6),
        shape("rating review mood", 5, 20),
    ],
    "09_prompts_and_types.sql": [
        shape("name slogan", 4, 4),
        shape("pieces_in_all_boxes known products", 1, 1),
    ],
    "10_whole_rows_and_names.sql": [
        shape("name hint", 4, 4),
        shape("name expensive_to_ship", 10, 10),
    ],
    "11_join_and_group.sql": [shape("material reason reviews avg_price", 1)],
    "12_same_call_twice.sql": [
        shape("topic tickets", 1, 3),
        shape("calls failures prompt_tokens completion_tokens", 1, 1),
    ],
    "13_limit.sql": [shape("review_id review", 3, 3)],
    "14_create_table_as.sql": [
        shape("products with_watts", 1, 1),
        shape("product_id name price type_of_watts", 8, 8),
    ],
    "15_explain.sql": [PLAN, PLAN],
    "16_look_inside.sql": [
        shape("name aliases signature description options example", 8),
        shape("name value description", 10),
        shape("name used", 6, 6),
        Shape((), 1),
        Shape((), 1),
        Shape((), 0, 0),
    ],
    "17_budgets.sql": [
        shape("ticket_id topic", 12, 12),
        shape("cause questions", 1, 1),
        shape("ticket_id topic", 12, 12),
    ],
    "18_when_calls_fail.sql": [
        shape("ticket_id subject urgency", 6, 6),
        shape("function cause message preview attempts status recorded_at", 0, 6),
    ],
    "19_search_by_meaning.sql": [
        shape("similarity review", 3, 3),
        shape("reviews type", 1, 1),
        shape("review written", 3, 3),
        shape("name name similarity"),
    ],
    "20_ask_about_groups.sql": [
        shape("channel tickets about", 2, 10),
        shape("complaints", 1, 1),
        shape("calls failures", 1, 1),
        shape("name verdict", 3, 3),
    ],
    "21_search.sql": [
        shape("rank subject body", 5, 5),
        shape("question rank review", 6, 6),
        shape("question answer", 3, 3),
    ],
    "22_semantic_join.sql": [
        shape("ticket_id subject name", 0, 50),
        shape("name review", 0, 5),
        PLAN,
        shape("name name_1", 0),
        PLAN,
    ],
    "23_rank.sql": [
        shape("ticket_id customer subject", 3, 3),
        shape("calls failures", 1, 1),
        shape("name place", 40, 40),
        shape("review_id rating place", 2, 2),
    ],
    "24_dedup_and_topics.sql": [
        shape("cluster_id is_canonical ticket_id subject"),
        shape("one other similarity same", 0, 5),
        shape("topic tickets", 1, 6),
    ],
    "25_first_and_last.sql": [
        shape("name reviews worst best", 7, 7),
        shape("calls failures", 1, 1),
        shape("channel tickets answer_first", 2, 10),
        shape("most_technical", 1, 1),
    ],
    "26_change_rows.sql": [
        shape("ticket_id mood", 0, 3),
        PLAN,
        shape("merge_action ticket_id topic", 7, 11),
        shape("ticket_id channel topic subject", 9, 12),
    ],
    "demo.sql": [
        PLAN,
        shape("name rating review", 1, 39),
        shape("model_says customer_said reviews", 2, 6),
        PLAN,
        shape("name facts stars reviews", 7, 7),
        Shape((), 4, 4),
    ],
}
"""Results of each file in order; no column names where another test fixes them."""


@pytest.fixture
def connection() -> Iterator[quackllm.Connection]:
    with quackllm.connect(provider=FakeProvider(seed=4), progress=False) as opened:
        opened.execute(f"SET file_search_path = '{EXAMPLES}'")
        yield opened


def results_of(connection: quackllm.Connection, script: str) -> Iterator[tuple[list[str], Any]]:
    """Run a script; yield column names and rows of each statement that has rows of its own."""
    for statement in split(script):
        connection.execute(statement.sql)
        _, returning = cut_returning(statement)
        if is_query(statement) or explain_of(statement) or returning:
            names = [column[0] for column in connection.description]
            yield names, connection.fetchall()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_example_gives_the_rows_it_announces(path: Path, connection: quackllm.Connection) -> None:
    results = list(results_of(connection, path.read_text(encoding="utf-8")))
    expected = SHAPES[path.name]
    assert len(results) == len(expected)
    for (names, rows), wanted in zip(results, expected, strict=True):
        if wanted.columns:
            assert names == list(wanted.columns)
        assert wanted.least <= len(rows) <= wanted.most


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_example_opens_with_what_it_shows_and_what_to_expect(path: Path) -> None:
    header = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    assert len(header) >= 4
    assert all(line.startswith("--") for line in header)
    assert any(line.startswith("-- Expect:") for line in header)


def test_the_call_written_three_times_is_paid_once(connection: quackllm.Connection) -> None:
    """Promise 4, nothing is paid twice: 12_same_call_twice.sql."""
    script = (EXAMPLES / "12_same_call_twice.sql").read_text(encoding="utf-8")
    *_, (_, [(calls, _, _, _)]) = results_of(connection, script)
    distinct = connection.execute(
        "SELECT count(DISTINCT body) FROM 'data/support_tickets.csv' "
        "WHERE channel = 'web' AND month(opened_at) = 9"
    ).fetchone()
    assert (calls,) == distinct


def test_descriptions_repeat_after_the_join_as_the_data_promise() -> None:
    rows = duckdb.execute(
        f"SELECT count(*), count(DISTINCT description) FROM '{EXAMPLES}/data/product_reviews.csv' "
        f"JOIN '{EXAMPLES}/data/products.csv' USING (product_id)"
    ).fetchall()
    assert rows == [(291, 40)]
