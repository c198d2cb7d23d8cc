"""llm_search(table, column, query): the rows whose text fits a question best.

Texts are ranked by their words (BM25) and by their meaning (cosine similarity of
embeddings), and the two rankings are fused by reciprocal rank. All texts are compared, so
that nothing near is missed; all questions of a statement are answered together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quackllm.engine.embedding import as_json
from quackllm.engine.fusion import fused
from quackllm.engine.lexical import WORDS, Postings, bm25
from quackllm.engine.neighbours import best_first, nearest, unit
from quackllm.engine.table_functions.arguments import (
    given_column,
    given_source,
    known_column,
    refuse_added,
)
from quackllm.engine.table_functions.base import (
    ASKED,
    Question,
    Request,
    Source,
    TableFunction,
    Workspace,
)
from quackllm.errors import BindError
from quackllm.optimizer.sql import json_fragment, literal, quote
from quackllm.udfs.base import Kind, Option, Parameter
from quackllm.udfs.options import one_of, text, whole

FUSED = 100
"""Rows of each ranking that are fused at least; the ranks behind count for little."""

MOST = 1_000_000
"""The largest k."""

RELEVANCE = "how well {text} answers {query}"

COMPARED_IN_DUCKDB = 2
"""Questions that DuckDB compares with a column of vectors one by one; for more of them the
vectors are fetched, which takes longer than two comparisons, and compared with all at once."""

DIRECTED = (
    "CASE WHEN isfinite(similarity) AND (similarity > -1 "
    "OR array_inner_product(vector, vector) BETWEEN 1e-45 AND 3.4e38) THEN similarity END"
)
"""SQL of a cosine, NULL for a vector without a direction: of zeros, or holding no finite number.
DuckDB 2 gives NaN for those, and DuckDB 1 says -1."""

ROWS_OF_PART = 8192
"""Rows that are worth a thread of their own, at least."""

ADDED = ("rank", "score")
"""The columns that are added to those of the table."""

Ranking = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Row numbers, the best first, and their scores; NaN for one that has none."""


@dataclass(frozen=True)
class Search:
    """What is searched: a request that was found to make sense."""

    request: Request
    source: Source
    column: str
    k: int
    mode: str
    vector: str | None
    rerank: int
    prompt: str
    model: str | None
    embedding_model: str | None

    @property
    def lexical(self) -> bool:
        """Whether the words count."""
        return self.mode != "vector"

    @property
    def semantic(self) -> bool:
        """Whether the meaning counts."""
        return self.mode != "lexical"

    @property
    def texts(self) -> str:
        """SQL of the rows that have a text."""
        return f"{self.source.sql} WHERE {quote(self.column)} IS NOT NULL"

    @property
    def depth(self) -> int:
        """How many rows of a ranking are wanted."""
        wanted = max(self.k, self.rerank)
        return max(wanted, FUSED) if self.mode == "hybrid" else wanted


def _search(request: Request, workspace: Workspace) -> Search:
    """Check the arguments. Raises `BindError`."""
    name, options = request.function, request.options
    source = given_source(request, workspace)
    column = given_column(request, source)
    refuse_added(request, source, ADDED)
    vector = options["vector"]
    if vector is not None:
        vector = known_column(request, source, "vector", vector)
        _dimensions(request, source, vector)
        if options["mode"] == "lexical":
            raise BindError(f"Binder Error: {name}: mode 'lexical' uses no vector")
    prompt = options["rerank_prompt"] or RELEVANCE
    return Search(
        request,
        source,
        column,
        options["k"],
        options["mode"],
        vector,
        options["rerank"],
        prompt,
        options["model"],
        options["embedding_model"],
    )


def _dimensions(request: Request, source: Source, vector: str) -> int:
    """Read the length of the vectors from the type of their column."""
    type_ = source.type_of(vector) or ""
    inner, _, length = type_.removesuffix("]").partition("[")
    if inner != "FLOAT" or not length.isdigit():
        raise BindError(
            f"Binder Error: {request.function}: vector: the column {vector} is {type_}, not "
            "FLOAT[n] as LLM_EMBED gives it; CAST(... AS FLOAT[n]) makes one of a list"
        )
    return int(length)


def questions(request: Request, workspace: Workspace) -> Sequence[Question]:
    """The embeddings that are needed, and about as many scores as there will be."""
    search = _search(request, workspace)
    if not search.k:
        return []
    asked: list[Question] = []
    if search.semantic:
        texts = f"SELECT CAST(query AS VARCHAR) AS text FROM {request.asked}"
        if search.vector is None:
            texts += (
                f" UNION ALL SELECT CAST({quote(search.column)} AS VARCHAR) FROM {search.texts}"
            )
        asked.append(
            Question(f"SELECT LLM_EMBED(text{_model(search.embedding_model)}) FROM ({texts})")
        )
    if search.rerank:
        some = (
            f"SELECT CAST({quote(search.column)} AS VARCHAR) AS text FROM {search.texts} "
            f"LIMIT {search.rerank}"
        )
        pairs = f"SELECT CAST(query AS VARCHAR) AS query, text FROM {request.asked}, ({some})"
        asked.append(
            Question(
                f"SELECT {_score(search)} FROM ({pairs}) WHERE query IS NOT NULL", certain=False
            )
        )
    return asked


def _model(name: str | None) -> str:
    return "" if name is None else f", model := {literal(name)}"


def _score(search: Search) -> str:
    return f"LLM_SCORE({literal(search.prompt)}, query, text{_model(search.model)})"


def likely(request: Request, workspace: Workspace) -> str:
    """The first rows of the table, for each question."""
    search = _search(request, workspace)
    first = (
        f"SELECT *, row_number() OVER () AS rank FROM (SELECT * FROM {search.texts} "
        f"LIMIT {search.k})"
    )
    return (
        f"SELECT a.{ASKED}, t.*, CAST(NULL AS DOUBLE) AS score FROM {request.asked} AS a, "
        f"({first}) AS t WHERE a.query IS NOT NULL"
    )


def rows(request: Request, workspace: Workspace) -> str:
    """Search for all questions; return the SELECT of the rows found."""
    search = _search(request, workspace)
    found = _found(search, workspace) if search.k else {}
    if search.rerank:
        found = _reranked(search, found, workspace)
    table = workspace.register(_as_table({at: _first(r, search.k) for at, r in found.items()}))
    return (
        f"SELECT s.{ASKED}, t.*, s.rank, s.score FROM {search.source.sql} AS t "
        f"JOIN {table} AS s ON t.rowid = s.number ORDER BY s.{ASKED}, s.rank"
    )


def _found(search: Search, workspace: Workspace) -> dict[int, Ranking]:
    """Rank for each question that has a text."""
    asked = workspace.query(
        f"SELECT {ASKED}, CAST(query AS VARCHAR) AS text FROM {search.request.asked} "
        "WHERE query IS NOT NULL"
    )
    numbers = asked[ASKED].to_pylist()
    rankings: list[dict[int, Ranking]] = []
    if search.lexical and numbers:
        rankings.append(_by_words(search, workspace))
    if search.semantic and numbers:
        rankings.append(_by_meaning(search, asked, workspace))
    if len(rankings) == 1:
        return rankings[0]
    return {
        number: fused([ranking[number][0] for ranking in rankings if number in ranking])
        for number in numbers
    }


def _by_words(search: Search, workspace: Workspace) -> dict[int, Ranking]:
    """Rank the texts that share a word with a question."""
    words = WORDS.format(text="CAST(query AS VARCHAR)")
    asked = workspace.query(
        f"SELECT {ASKED}, {words} AS words FROM {search.request.asked} WHERE query IS NOT NULL"
    )
    questions = dict(zip(asked[ASKED].to_pylist(), asked["words"].to_pylist(), strict=True))
    wanted = sorted({word for some in questions.values() for word in some})
    known = workspace.register(pa.table({"word": pa.array(wanted, pa.string())}))
    numbers, postings = _postings(search, known, workspace)
    found = {}
    for number, question in questions.items():
        scores = bm25(question, postings)
        best = best_first(scores, search.depth)
        best = best[scores[best] > 0]
        found[number] = numbers[best], scores[best]
    return found


def _postings(
    search: Search, known: str, workspace: Workspace
) -> tuple[NDArray[np.int64], Postings]:
    """Find known words in the texts; also return the texts' row numbers."""
    words = WORDS.format(text=f"CAST({quote(search.column)} AS VARCHAR)")
    cut = workspace.keep(f"SELECT rowid AS number, {words} AS words FROM {search.texts}")
    lengths = workspace.query(f"SELECT number, len(words) AS length FROM {cut} ORDER BY number")
    numbers = _numpy(lengths["number"])
    places = workspace.query(
        f"SELECT word, number, count(*) AS times FROM (SELECT number, unnest(words) AS word "
        f"FROM {cut}) WHERE word IN (FROM {known}) GROUP BY ALL ORDER BY word, number"
    )
    texts = np.searchsorted(numbers, _numpy(places["number"]))
    times = _numpy(places["times"])
    found, starts = np.unique(np.asarray(places["word"].to_pylist(), object), return_index=True)
    pieces = zip(found, np.split(texts, starts[1:]), np.split(times, starts[1:]), strict=True)
    by_word = {word: (texts, times) for word, texts, times in pieces} if len(found) else {}
    return numbers, Postings(by_word, _numpy(lengths["length"]))


def _by_meaning(search: Search, asked: pa.Table, workspace: Workspace) -> dict[int, Ranking]:
    """Rank the texts by the cosine similarity of their vectors to those of the questions.

    A text or a question whose embedding failed is in no ranking.
    """
    if search.vector is not None:
        return _by_stored_vectors(search, search.vector, asked, workspace)
    text = json_fragment(f"CAST({quote(search.column)} AS VARCHAR)")
    texts = workspace.query(
        f"SELECT rowid AS number, {text} AS text FROM {search.texts} ORDER BY number"
    )
    both = pa.concat_arrays([as_json(asked["text"].to_pylist()), _array(texts["text"])])
    embedded = workspace.embed(both, model=search.embedding_model)
    there, vectors = embedded.there, embedded.vectors
    of_questions, of_texts = there[: len(asked)], there[len(asked) :]
    return _nearest(
        (_numpy(asked[ASKED])[of_questions], vectors[: len(asked)][of_questions]),
        (_numpy(texts["number"])[of_texts], vectors[len(asked) :][of_texts]),
        search.depth,
    )


def _by_stored_vectors(
    search: Search, vector: str, asked: pa.Table, workspace: Workspace
) -> dict[int, Ranking]:
    """Rank by the vectors of a column: only the questions are embedded."""
    length = _dimensions(search.request, search.source, vector)
    given = workspace.dimensions(search.embedding_model)
    if given != length:
        raise BindError(
            f"Binder Error: {search.request.function}: the vectors of {vector} have {length} "
            f"dimensions, and the model that embeds the question gives {given}: both have to come "
            "from one model"
        )
    embedded = workspace.embed(as_json(asked["text"].to_pylist()), model=search.embedding_model)
    numbers, vectors = _numpy(asked[ASKED])[embedded.there], embedded.vectors[embedded.there]
    stored = f"{search.texts} AND {quote(vector)} IS NOT NULL"
    if len(numbers) <= COMPARED_IN_DUCKDB:
        return {
            int(number): _nearest_in_duckdb(search, question, stored, vector, workspace)
            for number, question in zip(numbers, vectors, strict=True)
        }
    rows_ = workspace.query(f"SELECT rowid AS number, {quote(vector)} AS vector FROM {stored}")
    flat = _array(rows_["vector"]).flatten().to_numpy(zero_copy_only=False)
    of_texts, by_text = _numpy(rows_["number"]), flat.reshape(-1, length)
    if np.any(np.diff(of_texts) < 0):  # as they may come where preserve_insertion_order is off
        order = np.argsort(of_texts)
        of_texts, by_text = of_texts[order], by_text[order]
    return _nearest((numbers, vectors), (of_texts, by_text), search.depth)


Vectors = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Numbers (n,) and the vectors (n, dimensions) of what they stand for."""


def _nearest(questions: Vectors, texts: Vectors, depth: int) -> dict[int, Ranking]:
    """Compare all, in NumPy. A vector without a direction is near to nothing."""
    (asked, of_questions), (numbers, of_texts) = _directed(questions), _directed(texts)
    near = nearest(of_questions, of_texts, depth)
    return {
        int(number): (numbers[indices], scores.astype(np.float64))
        for number, indices, scores in zip(asked, near.indices, near.scores, strict=True)
    }


def _directed(vectors: Vectors) -> Vectors:
    """Return the vectors that have a direction, at length 1."""
    lengths = np.linalg.norm(vectors[1], axis=1)
    kept = np.isfinite(lengths) & (lengths > 0)
    if kept.all():
        return vectors[0], unit(vectors[1])
    return vectors[0][kept], unit(vectors[1][kept])


def _nearest_in_duckdb(
    search: Search, question: NDArray[np.float32], stored: str, vector: str, workspace: Workspace
) -> Ranking:
    """Compare all, in DuckDB, which for few questions costs less than fetching the vectors.

    The question comes as a relation: so many numbers written out take longer to parse, in
    each statement that binds them, than 10,000 vectors to compare.
    """
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(question), len(question))
    asked = workspace.register(pa.table({"question": vectors}))
    column = quote(vector)
    compared = " UNION ALL ".join(
        f"SELECT number, {DIRECTED} AS similarity FROM (SELECT rowid AS number, "
        f"{column} AS vector, array_cosine_similarity({column}, "
        f"(SELECT question FROM {asked})) AS similarity FROM {stored} AND {part})"
        for part in _parts(search, workspace)
    )
    best = workspace.query(
        f"FROM ({compared}) ORDER BY similarity DESC NULLS LAST, number LIMIT {search.depth}"
    )
    best = best.filter(pc.is_valid(best["similarity"]))
    return _numpy(best["number"]), best["similarity"].to_numpy().astype(np.float64)


def _parts(search: Search, workspace: Workspace) -> list[str]:
    """Conditions that cut the table into parts, one for each thread of DuckDB.

    DuckDB's threads share a scan by row groups of 122,880 rows, so that one thread alone would
    compare a table of fewer; parts of a UNION ALL run beside each other. Row numbers are
    not always dense: parts may be of unequal size, but hold each row once.
    """
    counted = workspace.query(
        f"SELECT count(*) AS rows, current_setting('threads') AS threads FROM {search.source.sql}"
    )
    [rows_], [threads] = counted["rows"].to_pylist(), counted["threads"].to_pylist()
    parts = max(1, min(threads, rows_ // ROWS_OF_PART))
    bounds = [rows_ * part // parts for part in range(1, parts)]
    above = ["true", *(f"rowid >= {bound}" for bound in bounds)]
    below = [*(f"rowid < {bound}" for bound in bounds), "true"]
    return [f"{first} AND {last}" for first, last in zip(above, below, strict=True)]


def _reranked(
    search: Search, found: dict[int, Ranking], workspace: Workspace
) -> dict[int, Ranking]:
    """Let a model score the first rows of each question; the others follow, without a score.

    So do rows whose score failed. Equal scores keep the order that they had.
    """
    first = {number: _first(ranking, search.rerank) for number, ranking in found.items()}
    pairs = workspace.register(_as_table(first))
    scored = workspace.query(
        f"SELECT {ASKED}, rank, {_score(search)} AS score FROM (SELECT p.{ASKED}, p.rank, "
        f"CAST(a.query AS VARCHAR) AS query, CAST(t.{quote(search.column)} AS VARCHAR) AS text "
        f"FROM {pairs} AS p JOIN {search.request.asked} AS a USING ({ASKED}) "
        f"JOIN {search.source.sql} AS t ON t.rowid = p.number)"
    )
    given = {(a, rank): s for a, rank, s in zip(*scored.to_pydict().values(), strict=True)}
    result = {}
    for number, (rows_, _) in found.items():
        scores = np.array(
            [given.get((number, rank)) for rank in range(1, len(rows_) + 1)], np.float64
        )
        order = np.argsort(np.where(np.isnan(scores), np.inf, -scores), kind="stable")
        result[number] = rows_[order], scores[order]
    return result


def _first(ranking: Ranking, count: int) -> Ranking:
    return ranking[0][:count], ranking[1][:count]


def _as_table(found: dict[int, Ranking]) -> pa.Table:
    """Write rankings as rows: question, row number, rank from 1, score."""
    lengths = [len(rows_) for rows_, _ in found.values()]
    ranks = [np.arange(1, length + 1) for length in lengths]
    return pa.table(
        {
            ASKED: pa.array(np.repeat(list(found), lengths).astype(np.int64)),
            "number": _joined([rows_ for rows_, _ in found.values()], np.int64),
            "rank": _joined(ranks, np.int64),
            "score": pa.array(
                _joined([s for _, s in found.values()], np.float64), from_pandas=True
            ),
        }
    )


def _joined(parts: list[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *parts]).astype(kind)


def _array(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _numpy(column: pa.ChunkedArray) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = column.to_numpy()
    return numbers


SEARCH = TableFunction(
    name="llm_search",
    summary="the rows of a table whose text fits a question best, by words and by meaning",
    parameters=(
        Parameter("table", Kind.CONSTANT, "the name of a table, a view or a CTE, as a text"),
        Parameter("column", Kind.CONSTANT, "the name of its column with the texts, as a text"),
        Parameter("query", Kind.VALUE, "the question; it may be a column of what stands before"),
    ),
    options=(
        Option("k", "rows for each question, at most", whole(0, MOST), 10),
        Option(
            "mode",
            "what counts: 'lexical' the words (BM25), 'vector' the meaning (embeddings), "
            "'hybrid' both, fused by reciprocal rank",
            one_of("hybrid", "vector", "lexical"),
            "hybrid",
        ),
        Option("vector", "a column FLOAT[n] with embeddings of the texts, made before", text),
        Option("rerank", "how many of the first rows LLM_SCORE puts in order", whole(0, MOST), 0),
        Option(
            "rerank_prompt",
            "what is scored then; {query} and {text} stand for the question and the text",
            text,
        ),
        Option("model", "the model that scores", text),
        Option("embedding_model", "the model that embeds", text),
    ),
    example="FROM LLM_SEARCH('tickets', 'body', 'cannot log in', k := 5)",
    form="SELECT *, CAST(NULL AS BIGINT) AS rank, CAST(NULL AS DOUBLE) AS score "
    'FROM query_table("table")',
    questions=questions,
    rows=rows,
    likely=likely,
)
