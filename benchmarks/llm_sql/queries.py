"""The sixteen queries of the LLM-SQL paper, on tables that can be had, and two controls.

Source of the forms: "Optimizing LLM Queries in Relational Data Analytics Workloads" (MLSys
2025, arXiv 2403.05821), section 6.1: five filters, five projections, two statements with
two calls, two aggregations and two retrieval-augmented ones. Its movies, products, BIRD,
PDMX, beer, SQuAD and FEVER tables are played by the views of `views.sql` in the data folder.
The controls are tables whose texts do not repeat, where no order can help.

Every table is a sample of whole groups (all reviews of some movies), so that values repeat
as they do in the full table, with its rows shuffled by a fixed hash.
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


MOVIES = """
SELECT review_id AS id, * EXCLUDE (review_id) FROM v_movies
WHERE movie_id IN (SELECT movie_id FROM v_movies GROUP BY movie_id HAVING count(*) >= 25
                   ORDER BY hash(movie_id) LIMIT 12)
ORDER BY hash(review_id, 7) LIMIT {rows}
"""
PRODUCTS = """
SELECT review_id AS id, * EXCLUDE (review_id) FROM v_products_amazon
WHERE text IS NOT NULL ORDER BY hash(review_id, 7) LIMIT {rows}
"""
POSTS = """
SELECT row_id AS id, * EXCLUDE (row_id) FROM v_bird
WHERE "PostId" IN (SELECT "PostId" FROM v_bird WHERE length("Body") < 4000 GROUP BY "PostId"
                   HAVING count(*) >= 3 ORDER BY hash("PostId") LIMIT 60)
ORDER BY hash(row_id, 7) LIMIT {rows}
"""
WIDE = """
SELECT id, host_id, host_name, host_since, host_location, host_about, host_response_time,
    host_is_superhost, host_verifications, neighbourhood_cleansed, neighborhood_overview,
    property_type, room_type, accommodates, bathrooms_text, beds, price, name
FROM v_wide
WHERE host_id IN (SELECT host_id FROM v_wide GROUP BY host_id HAVING count(*) BETWEEN 4 AND 20
                  ORDER BY hash(host_id) LIMIT 40)
ORDER BY hash(id, 7) LIMIT {rows}
"""
BEER = """
SELECT row_id AS id, * EXCLUDE (row_id) FROM v_beer
WHERE beer_id IN (SELECT beer_id FROM v_beer GROUP BY beer_id HAVING count(*) >= 25
                  ORDER BY hash(beer_id) LIMIT 16)
ORDER BY hash(row_id, 7) LIMIT {rows}
"""
SQUAD = """
SELECT qid AS id, * EXCLUDE (qid) FROM v_squad
WHERE label_gold IN (SELECT label_gold FROM v_squad GROUP BY label_gold HAVING count(*) >= 5
                     ORDER BY hash(label_gold) LIMIT 16)
ORDER BY hash(qid, 7) LIMIT {rows}
"""
FEVER = """
SELECT row_id AS id, * EXCLUDE (row_id) FROM v_fever_rag
WHERE evidence1 IN (SELECT evidence1 FROM v_fever_rag GROUP BY evidence1 HAVING count(*) >= 3
                    ORDER BY hash(evidence1) LIMIT 40)
ORDER BY hash(row_id, 7) LIMIT {rows}
"""
CLOTHING = """
SELECT review_id AS id, * EXCLUDE (review_id) FROM v_products
ORDER BY hash(review_id, 7) LIMIT {rows}
"""
CLAIMS = """
SELECT row_id AS id, * EXCLUDE (row_id) FROM v_fever ORDER BY hash(row_id, 7) LIMIT {rows}
"""

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
