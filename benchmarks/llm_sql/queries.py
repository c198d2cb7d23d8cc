"""The sixteen queries of the LLM-SQL paper, on tables that can be had, and two controls.

Source of the forms: "Optimizing LLM Queries in Relational Data Analytics Workloads" (MLSys
2025, arXiv 2403.05821), section 6.1: five filters, five projections, two statements with
two calls, two aggregations and two retrieval-augmented ones. Its movies, products, BIRD,
PDMX, beer, SQuAD and FEVER tables are played by the views of `views.sql` in the data folder.
The controls are tables whose texts do not repeat, where no order can help.

Every table is a sample of whole groups (all reviews of some movies), so that values repeat
about as often as in the full table, with its rows shuffled by a fixed hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quackllm.udfs.base import Function
from quackllm.udfs.filter import FILTER
from quackllm.udfs.llm import LLM
from quackllm.udfs.score import SCORE


@dataclass(frozen=True)
class Ask:
    """One call of a function: its prompt and the columns that it is given."""

    function: Function
    prompt: str
    fields: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def sql(self) -> str:
        """Return the call as a person writes it."""
        prompt = self.prompt.replace("'", "''")
        options = "".join(f", {name} := {value!r}" for name, value in self.options.items())
        return f"{self.function.name.upper()}('{prompt}', {', '.join(self.fields)}{options})"


@dataclass(frozen=True)
class Query:
    """One query of the benchmark.

    table: the rows, with a column `id`; `{rows}` of them. statement: over the table `t`;
    `{0}` and `{1}` are its calls. right: of a filter, the condition that says which rows
    should pass, on columns that the model is not shown.
    """

    name: str
    kind: str
    rows: int
    table: str
    asks: tuple[Ask, ...]
    statement: str
    right: str | None = None


DRAW = 2
"""Seed of the draw of groups: in its samples rows are about as long as in the whole tables,
and groups no larger; with few groups others miss that by far (films with a third of the text).
"""


def _groups(view: str, key: str, group: str, where: str = "true") -> str:
    """Return the query for `{rows}` rows: all rows of some groups, in an order by hash.

    Groups are drawn by hash until there are enough rows, the last one in part, so that values
    repeat about as often as in the whole table, however few rows are taken.
    """
    return f"""
SELECT {key} AS id, * EXCLUDE ({key})
FROM (FROM {view} WHERE {where} ORDER BY hash({group}, {DRAW}), {group}, hash({key}) LIMIT {{rows}})
ORDER BY hash({key}, 7)
"""


def _rows(view: str, key: str) -> str:
    """Return the query for `{rows}` rows drawn by hash."""
    return (
        f"SELECT {key} AS id, * EXCLUDE ({key}) FROM {view} ORDER BY hash({key}, 7) LIMIT {{rows}}"
    )


MOVIES = _groups("v_movies", "review_id", "movie_id")
PRODUCTS = _groups("v_products_amazon", "review_id", "product_name", where="text IS NOT NULL")
POSTS = _groups("v_bird", "row_id", '"PostId"', where='length("Body") < 4000')
WIDE = _groups("v_wide", "id", "host_id")
BEER = _groups("v_beer", "row_id", "beer_id")
SQUAD = _groups("v_squad", "qid", "label_gold")
FEVER = _groups("v_fever_rag", "row_id", "evidence1")
CLOTHING = _rows("v_products", "review_id")
CLAIMS = _rows("v_fever", "row_id")

MOVIE = ("reviewcontent", "critic", "topcritic", "publisher", "genres", "director", "movieinfo")
PRODUCT = ("text", "review_title", "product_name", "brand", "categories")
POST = ('"Text"', '"PostDate"', '"Body"')
LISTING = (
    "name", "host_name", "host_since", "host_location", "host_about", "host_response_time",
    "host_is_superhost", "host_verifications", "neighbourhood_cleansed",
    "neighborhood_overview", "property_type", "room_type", "accommodates", "beds", "price",
)  # fmt: skip
REVIEW = (
    "review_profile_name", "review_time", "review_taste", "review_palate", "review_appearance",
    "beer_name", "beer_style",
)  # fmt: skip

PASS = "SELECT id FROM t WHERE {0}"
EACH = "SELECT id, {0} AS answer FROM t"
SHORT = {"max_tokens": 12}


def _filter(
    name: str, rows: int, table: str, prompt: str, fields: tuple[str, ...], right: str | None
) -> Query:
    return Query(name, "filter", rows, table, (Ask(FILTER, prompt, fields),), PASS, right)


def _projection(name: str, rows: int, table: str, prompt: str, fields: tuple[str, ...]) -> Query:
    return Query(name, "projection", rows, table, (Ask(LLM, prompt, fields, SHORT),), EACH)


QUERIES = (
    _filter("filter movies", 300, MOVIES, "Does the critic like the film?", MOVIE,
            "label_fresh = 'fresh'"),
    _filter("filter products", 300, PRODUCTS, "Is the customer content with the product?",
            PRODUCT, "label_rating >= 4"),
    _filter("filter posts", 180, POSTS, "Is the discussion about quantum computing?", POST,
            "label_site = 'quantumcomputing'"),
    _filter("filter listings", 200, WIDE, "Is it good for a family with children?", LISTING,
            None),
    _filter("filter beer", 400, BEER, "Does the reviewer recommend the beer?", REVIEW,
            "split_part(review_overall, '/', 1)::INTEGER >= 14"),
    _projection("projection movies", 100, MOVIES, "Name one quality of the film", MOVIE),
    _projection("projection products", 100, PRODUCTS, "Say what the review is about", PRODUCT),
    _projection("projection posts", 80, POSTS, "Give the topic of the discussion", POST),
    _projection("projection listings", 80, WIDE, "Write a headline for the listing", LISTING),
    _projection("projection beer", 120, BEER, "Describe the beer", REVIEW),
    Query("two calls movies", "multi", 150, MOVIES,
          (Ask(FILTER, "Does the critic like the film?", MOVIE),
           Ask(LLM, "Say why the critic likes it", MOVIE, SHORT)),
          "SELECT id, {1} AS answer FROM t WHERE {0}"),
    Query("two calls products", "multi", 150, PRODUCTS,
          (Ask(FILTER, "Is the customer content with the product?", PRODUCT),
           Ask(LLM, "Say what the customer likes", PRODUCT, SHORT)),
          "SELECT id, {1} AS answer FROM t WHERE {0}"),
    Query("aggregation movies", "aggregation", 250, MOVIES,
          (Ask(SCORE, "How much does the critic like the film?", MOVIE),),
          "SELECT movie_id, avg({0}) AS answer FROM t GROUP BY movie_id"),
    Query("aggregation products", "aggregation", 250, PRODUCTS,
          (Ask(SCORE, "How content is the customer?", PRODUCT),),
          "SELECT product_name, avg({0}) AS answer FROM t GROUP BY product_name"),
    Query("retrieval squad", "retrieval", 60, SQUAD,
          (Ask(LLM, "Answer the question from the contexts",
               ("question", "context1", "context2", "context3"), SHORT),), EACH),
    Query("retrieval fever", "retrieval", 90, FEVER,
          (Ask(FILTER, "Does the evidence support the claim?",
               ("claim", "evidence1", "evidence2", "evidence3", "evidence4")),), PASS,
          "label = 'SUPPORTS'"),
    _filter("control clothing", 200, CLOTHING, "Is the customer content?",
            ("review_title", "text", "department"), "label_rating >= 4"),
    _filter("control claims", 200, CLAIMS, "Does the evidence support the claim?",
            ("claim", "evidence1", "evidence2"), "label = 'SUPPORTS'"),
)  # fmt: skip
