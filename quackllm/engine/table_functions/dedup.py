"""llm_dedup and llm_dedup_pairs: which rows of a table are about the same thing.

Texts are embedded, near ones are compared by a model, and what is connected by comparisons is
one cluster. Equal texts are one from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from quackllm.clustering.closure import Groups, grouped
from quackllm.clustering.directions import unit
from quackllm.engine.candidates import CandidatePairs, candidate_pairs
from quackllm.engine.embedding import as_json
from quackllm.engine.lexical import WORDS
from quackllm.engine.shared_words import word_vectors
from quackllm.engine.table_functions.arguments import given_column, given_source, refuse_added
from quackllm.engine.table_functions.base import Question, Request, Source, TableFunction, Workspace
from quackllm.optimizer.sql import literal, quote
from quackllm.udfs.base import Kind, Option, Parameter
from quackllm.udfs.options import number, text, whole

PROMPT = "Do a and b describe the same thing?"

ADDED = (
    ("cluster_id", "BIGINT"),
    ("is_canonical", "BOOLEAN"),
    ("cluster_rows", "BIGINT"),
    ("conflicts", "BIGINT"),
    ("unanswered", "BIGINT"),
)
"""Columns that llm_dedup adds to those of the table, and their types."""

PAIRS = (
    ("a", "VARCHAR"),
    ("b", "VARCHAR"),
    ("similarity", "FLOAT"),
    ("same", "BOOLEAN"),
    ("is_conflict", "BOOLEAN"),
)
"""Columns of llm_dedup_pairs, and their types."""

ROW = '"__llm_row"'
"""What a row of the table is called in the SQL written here."""


@dataclass(frozen=True)
class Compared:
    """The distinct texts of a column, ascending, and what was found out about pairs of them.

    same: (p,), None for a pair without an answer.
    """

    texts: list[str]
    pairs: CandidatePairs
    same: list[bool | None]
    groups: Groups


def _source(request: Request, workspace: Workspace) -> Source:
    """Find the table. Raises `BindError` for a column that it lacks."""
    source = given_source(request, workspace)
    given_column(request, source)
    return source


def _free_source(request: Request, workspace: Workspace) -> Source:
    """Find a table. Raises `BindError` also for one that has a column which is added to it."""
    source = _source(request, workspace)
    refuse_added(request, source, (name for name, _ in ADDED))
    return source


def _value(request: Request) -> str:
    """Return SQL of the text of a row."""
    return f"CAST({ROW}.{quote(str(request.constants['column']))} AS VARCHAR)"


def _comparison(request: Request) -> str:
    """Return SQL of the call that compares two texts, a and b."""
    given = [literal(request.options["prompt"]), "{'a': a, 'b': b}"]
    if request.options["model"] is not None:
        given.append(f"model := {literal(request.options['model'])}")
    return f"LLM_FILTER({', '.join(given)})"


def _questions(request: Request, workspace: Workspace) -> Sequence[Question]:
    """Return what embeds the texts, and what compares each with as many as it may be.

    Which ones these are, embeddings tell; here it is those that follow in the alphabet.
    """
    source, options = _source(request, workspace), request.options
    model = options["embedding_model"]
    given = "" if model is None else f", model := {literal(model)}"
    texts = f"SELECT DISTINCT {_value(request)} AS a FROM {source.sql} AS {ROW}"
    following = ", ".join(f"lead(a, {at}) OVER (ORDER BY a)" for at in range(1, options["k"] + 1))
    pairs = f"SELECT a, unnest([{following}]) AS b FROM ({texts})"
    return [
        Question(f"SELECT LLM_EMBED(a{given}) FROM ({texts})"),
        Question(f"SELECT {_comparison(request)} FROM ({pairs}) WHERE b IS NOT NULL", False),
    ]


def _compare(request: Request, workspace: Workspace, source: Source) -> Compared:
    """Embed the distinct texts, and ask about the pairs of near ones."""
    value, options = _value(request), request.options
    distinct = f"SELECT DISTINCT {value} AS a FROM {source.sql} AS {ROW} WHERE {value} IS NOT NULL"
    found = workspace.query(f"SELECT a, {WORDS.format(text='a')} AS words FROM ({distinct})")
    found = found.sort_by("a")
    texts = found["a"].to_pylist()
    there, vectors = np.empty(0, np.int64), np.empty((0, 1), np.float32)
    if len(texts) > 1:
        embedded = workspace.embed(as_json(texts), model=options["embedding_model"])
        there = np.flatnonzero(embedded.there)
        vectors = unit(embedded.vectors[there])
    words = word_vectors(found["words"].combine_chunks().take(there))
    near = candidate_pairs(vectors, words, options["k"], options["threshold"])
    pairs = CandidatePairs(there[near.left], there[near.right], near.scores)
    same = _answers(request, workspace, texts, pairs)
    return Compared(texts, pairs, same, grouped(len(texts), pairs.left, pairs.right, same))


def _answers(
    request: Request, workspace: Workspace, texts: Sequence[str], pairs: CandidatePairs
) -> list[bool | None]:
    """Ask about pairs; return the answer to each."""
    if not len(pairs):
        return []
    asked = {"n": np.arange(len(pairs)), **_shown(texts, pairs)}
    table = workspace.register(pa.table(asked))
    found = workspace.query(f"SELECT n, {_comparison(request)} AS same FROM {table}")
    same: list[bool | None] = found.sort_by("n")["same"].to_pylist()
    return same


def _shown(texts: Sequence[str], pairs: CandidatePairs) -> dict[str, list[str]]:
    return {
        "a": [texts[at] for at in pairs.left.tolist()],
        "b": [texts[at] for at in pairs.right.tolist()],
    }


def _rows(request: Request, workspace: Workspace) -> str:
    """Return a SELECT of the table's rows with what was found out about them.

    The canonical row of a cluster is the one with the fewest NULLs, of these the one with the
    longest text, of these the first in the order of the text, then of the other columns.
    """
    source = _free_source(request, workspace)
    compared = _compare(request, workspace, source)
    groups = compared.groups
    clusters = workspace.register(
        pa.table(
            {
                "text": pa.array(compared.texts, pa.string()),
                "cluster_id": groups.numbers,
                "conflicts": groups.conflicts,
                "unanswered": groups.unanswered,
            }
        )
    )
    value = _value(request)
    nulls = " + ".join(
        f"CAST({ROW}.{quote(name)} IS NULL AS INTEGER)" for name, _ in source.columns
    )
    best = f"{nulls} ASC, length({value}) DESC, {value} ASC, CAST({ROW} AS VARCHAR) ASC"
    of_cluster = "OVER (PARTITION BY c.cluster_id{})"
    return (
        f"SELECT {ROW}.*, c.cluster_id, "
        f"c.cluster_id IS NULL OR row_number() {of_cluster.format(f' ORDER BY {best}')} = 1 "
        f"AS is_canonical, "
        f"CASE WHEN c.cluster_id IS NULL THEN 1 ELSE count(*) {of_cluster.format('')} END "
        f"AS cluster_rows, "
        f"coalesce(c.conflicts, 0) AS conflicts, coalesce(c.unanswered, 0) AS unanswered "
        f"FROM {source.sql} AS {ROW} LEFT JOIN {clusters} AS c ON {value} = c.text "
        f"ORDER BY {ROW}.rowid ASC"
    )


def _pair_rows(request: Request, workspace: Workspace) -> str:
    """Return a SELECT of the pairs that were compared, the most similar first."""
    compared = _compare(request, workspace, _source(request, workspace))
    pairs, numbers = compared.pairs, compared.groups.numbers
    together = (numbers[pairs.left] == numbers[pairs.right]).tolist()
    conflict = [
        one is False and inside for one, inside in zip(compared.same, together, strict=True)
    ]
    shown = {
        **_shown(compared.texts, pairs),
        "similarity": pairs.scores,
        "same": compared.same,
        "is_conflict": conflict,
    }
    types = (pa.string(), pa.string(), pa.float32(), pa.bool_(), pa.bool_())
    arrays = [pa.array(shown[name], type_) for (name, _), type_ in zip(PAIRS, types, strict=True)]
    table = workspace.register(pa.table(arrays, [name for name, _ in PAIRS]))
    return f"FROM {table} ORDER BY similarity DESC, a ASC, b ASC"


def _likely(request: Request, workspace: Workspace) -> str:
    source = _free_source(request, workspace)
    return f"SELECT *, {_nulls(ADDED)} FROM {source.sql}"


def _likely_pairs(request: Request, workspace: Workspace) -> str:
    source = _source(request, workspace)
    return f"SELECT {_nulls(PAIRS)} FROM {source.sql}, range({request.options['k']})"


def _nulls(columns: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"CAST(NULL AS {type_}) AS {name}" for name, type_ in columns)


PARAMETERS = (
    Parameter("table", Kind.CONSTANT, "the name of a table, a view or a CTE, as a text"),
    Parameter("column", Kind.CONSTANT, "its column with the texts that are compared, as a text"),
)

OPTIONS = (
    Option(
        "prompt",
        "the question whether two texts, {a} and {b}, are the same",
        text,
        PROMPT,
    ),
    Option("k", "with how many of the texts nearest to it each one is compared", whole(1, 100), 5),
    Option("threshold", "the similarity that a pair needs to be compared", number(-1, 1), 0.5),
    Option("model", "the model that compares, as in LLM_FILTER", text),
    Option("embedding_model", "the model that embeds, as `model` in LLM_EMBED", text),
)

DEDUP = TableFunction(
    name="llm_dedup",
    summary="the rows of a table, with the cluster of rows that are about the same thing",
    parameters=PARAMETERS,
    options=OPTIONS,
    example="FROM llm_dedup('products', 'name') WHERE is_canonical",
    form=f'SELECT *, {_nulls(ADDED)} FROM query_table("table")',
    questions=_questions,
    rows=_rows,
    likely=_likely,
)

DEDUP_PAIRS = TableFunction(
    name="llm_dedup_pairs",
    summary="the pairs of texts that llm_dedup compares, with the answers and contradictions",
    parameters=PARAMETERS,
    options=OPTIONS,
    example="FROM llm_dedup_pairs('products', 'name') WHERE is_conflict",
    form=f"SELECT {_nulls(PAIRS)}",
    questions=_questions,
    rows=_pair_rows,
    likely=_likely_pairs,
)
