"""Whether a planned answer is the naive answer, for at most as many calls."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from quackllm.engine.written_order import EVALUATION
from quackllm.errors import BindError
from tests.fuzz.cases import Case
from tests.fuzz.runner import CRASHES, Result, Row, Runner

REFUSED = (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException)
"""What DuckDB raises for a statement that is no statement."""

BROKEN = (duckdb.FatalException, duckdb.InternalException)
"""Defects of DuckDB, after which the database is of no use any more."""

MORE_THAN_NAIVE = "more calls than the naive plan"
"""Outcome of a statement that asks more than one call for every row, whether DuckDB's optimizer
is on, which may evaluate a call for rows that the text leaves out, or off."""

EXCESS = "more calls than DuckDB's plan: "
"""Begins the outcome of a statement on which DuckDB's own optimizer and remembered answers
together ask less, though it asks no more than the naive plan; a cause follows."""

UNKNOWN = "unknown cause"

ORDER = "predicates in another order than written"
"""A cause that is accepted: which order asks less is told by a sample of 16 rows, or guessed of
fewer than 320 argument tuples (docs/optimizer.md, The order of predicates)."""


@dataclass(frozen=True)
class Verdict:
    """How a case ended.

    outcome: 'equal', 'discarded', `EXCESS` with a cause, or the kind of difference.
    detail: what differs, in a few words; the reason when discarded.
    explained: the entries of EXPLAIN, when it was asked for.
    """

    outcome: str
    detail: str = ""
    planned: Result | None = None
    naive: Result | None = None
    explained: tuple[dict[str, Any], ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the planner is wrong."""
        return self.outcome not in ("equal", "discarded") and not self.outcome.startswith(EXCESS)

    @property
    def worth_showing(self) -> bool:
        """Whether the planner is wrong, or asks more than DuckDB's plan and nobody knows why."""
        return self.failed or self.outcome == EXCESS + UNKNOWN

    @property
    def excess(self) -> int:
        """Calls that DuckDB's own optimizer and remembered answers together would save."""
        if self.planned is None or self.naive is None or not self.outcome.startswith(EXCESS):
            return 0
        return self.planned.calls - self.naive.calls

    @property
    def signature(self) -> str:
        """What failures of one cause have in common, as far as can be told."""
        detail = "".join(" " if c.isdigit() else c for c in self.detail)[:60]
        return f"{self.outcome}: {detail}"


def judge(runner: Runner, case: Case, explain: bool = False) -> Verdict:
    """Run a case both ways and compare; `explain` it too, which has to work."""
    runner.prepare(case)
    try:
        for statement in (case.setup,) if case.setup else ():
            runner.setup(statement)
    except duckdb.Error as error:
        return Verdict("discarded", _reason(error))
    naive = runner.naive(case.sql, case.effect)
    planned = runner.planned(case)
    if isinstance(naive.error, BROKEN) or isinstance(planned.error, BROKEN):
        runner.renew()
    outcome, detail = _compared(runner, case, planned, naive)
    entries: list[dict[str, Any]] = []
    if explain and outcome == "equal" and planned.error is None and case.is_query:
        try:
            entries = runner.explained(case.sql)
        except (duckdb.Error, *CRASHES) as error:
            outcome, detail = "EXPLAIN fails", _reason(error)
    return Verdict(outcome, detail, planned, naive, tuple(entries))


def _compared(runner: Runner, case: Case, planned: Result, naive: Result) -> tuple[str, str]:
    if isinstance(naive.error, BROKEN):
        return "discarded", f"DuckDB breaks on the naive plan: {_reason(naive.error)}"
    if isinstance(naive.error, REFUSED):
        if planned.error is None and isinstance(naive.error, BindError):
            return "discarded", f"has no naive form: {_reason(naive.error)}"
        if planned.error is None:
            return "accepts what DuckDB refuses", _reason(naive.error)
        return "discarded", _reason(naive.error)
    if naive.error is not None or planned.error is not None:
        if naive.error is None and isinstance(planned.error, EVALUATION):
            naive = _in_order(runner, case)
        return _errors(planned.error, naive.error)
    if planned.types != naive.types:
        return "types", f"{planned.types}, naive {naive.types}"
    if _explicit(planned.names, naive.names):
        return "names", f"{planned.names}, naive {naive.names}"
    wrong = _rows(runner, case, planned, naive)
    if wrong:
        return "rows", wrong
    if planned.left_out:
        return "rule left out", planned.left_out
    return _calls(runner, case, planned, naive)


def _in_order(runner: Runner, case: Case) -> Result:
    """Run a case naively in the order in which it is written, which DuckDB does not always take.

    What fails before a call then fails, though DuckDB has asked the model first.
    """
    ordered = runner.in_query_order(case.sql, case.effect)
    return ordered if ordered.error is not None else runner.as_written(case.sql, case.effect)


def _errors(planned: BaseException | None, naive: BaseException | None) -> tuple[str, str]:
    if planned is None:
        # DuckDB may evaluate an expression for rows that the planner has no use for.
        return "equal", f"only the naive plan fails: {_reason(naive)}"
    if naive is None:
        return "error", _reason(planned)
    if not isinstance(planned, type(naive)) and not isinstance(naive, type(planned)):
        return "error class", f"{_reason(planned)}, naive {_reason(naive)}"
    return "equal", "both fail"


def _explicit(planned: tuple[str, ...], naive: tuple[str, ...]) -> bool:
    """Whether names differ that were given; DuckDB makes the others of the text it runs."""
    return any(p != n for p, n in zip(planned, naive, strict=True) if "(" not in n)


def _rows(runner: Runner, case: Case, planned: Result, naive: Result) -> str:
    if case.sampled:
        same = len(planned.rows) == len(naive.rows)
        return "" if same else f"{len(planned.rows)} rows of a sample, naive {len(naive.rows)}"
    if case.unlimited is not None:
        wrong = _chosen(runner, case.unlimited, planned, naive)
        if wrong:
            return wrong
    else:
        missing, extra = _difference(planned.rows, naive.rows)
        if missing or extra:
            return f"missing {_shown(missing)}, extra {_shown(extra)}"
    if _projected(planned.rows, case.ordered) != _projected(naive.rows, case.ordered):
        return f"order of columns {case.ordered}"
    return ""


def _chosen(runner: Runner, unlimited: str, planned: Result, naive: Result) -> str:
    """LIMIT may choose: as many rows as the naive plan, all of them in its full answer."""
    if len(planned.rows) != len(naive.rows):
        return f"{len(planned.rows)} rows with LIMIT, naive {len(naive.rows)}"
    everything = runner.naive(unlimited)
    extra = _counted(planned.rows) - _counted(everything.rows)
    return f"extra with LIMIT {_shown(extra)}" if extra else ""


def _difference(planned: tuple[Row, ...], naive: tuple[Row, ...]) -> tuple[Any, Any]:
    left, right = _counted(planned), _counted(naive)
    return right - left, left - right


def _counted(rows: tuple[Row, ...]) -> Counter[str]:
    return Counter(repr(_plain(row)) for row in rows)


def _projected(rows: tuple[Row, ...], columns: tuple[int, ...]) -> list[str]:
    return [repr(_plain(tuple(row[column] for column in columns))) for row in rows]


def _plain(value: Any) -> Any:
    """Floats to nine digits: the order of a sum is not fixed."""
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.9g}")
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _calls(runner: Runner, case: Case, planned: Result, naive: Result) -> tuple[str, str]:
    if "VIEW" in case.setup or "MACRO" in case.setup:
        return "equal", ""  # plain DuckDB evaluates it, chunk by chunk
    twice = [question for question, count in planned.questions.items() if count > 1]
    if twice and "cache := false" not in case.sql:
        return "asked twice", f"{len(twice)} questions"
    if case.disabled:  # rules left out ask for more
        return "equal", ""
    statement = case.sql, case.effect
    if _more_than(naive, planned) and _more_than(runner.as_written(*statement), planned):
        ordered = runner.in_query_order(*statement)
        if ordered.error is not None or _more_than(ordered, planned):
            if _by_another_order(runner, case, naive):
                return EXCESS + ORDER, f"{planned.calls} calls, naive {naive.calls}"
            return MORE_THAN_NAIVE, f"{planned.calls} calls, one per row {naive.rows_evaluated}"
    if planned.calls > naive.calls:
        cause = _known_cause(runner, case, planned) or UNKNOWN
        return EXCESS + cause, f"{planned.calls} calls, naive {naive.calls}"
    return "equal", ""


def _more_than(naive: Result, planned: Result) -> bool:
    """Whether the plan asks more than one call per row; a long list is read in several."""
    return naive.error is None and planned.calls > max(naive.rows_evaluated, naive.calls)


def _by_another_order(runner: Runner, case: Case, naive: Result) -> bool:
    """Whether the plan asks as little when it keeps the order of predicates."""
    if not case.is_query:  # it has changed its rows
        runner.prepare(case)
    kept = runner.planned(replace(case, disabled="order_predicates"))
    return kept.error is None and not _more_than(naive, kept)


def _known_cause(runner: Runner, case: Case, planned: Result) -> str:
    """Why DuckDB's own plan asks less, when it is one of the reasons that are accepted.

    The reason is found by running the naive plan without the optimizer that makes it so.
    """

    def asks_as_much(without: str) -> bool:
        return runner.naive(case.sql, case.effect, without).calls >= planned.calls

    if asks_as_much("expression_rewriter,statistics_propagation"):
        return "DuckDB folds a constant, or knows from its statistics"
    if "LIMIT 0" in case.sql and asks_as_much("limit_pushdown,empty_result_pullup"):
        return "LIMIT 0 in a subquery"
    features = " ".join(case.features)
    behind = "correlated" in features or "LATERAL" in features
    outer = any(f"join: {kind}" in features for kind in ("LEFT", "RIGHT", "FULL"))
    if (behind or outer) and asks_as_much("filter_pushdown"):
        return "a subquery or an outer join's condition behind a condition with a call"
    return ""


def _shown(rows: Counter[str]) -> str:
    text = ", ".join(rows)
    return text if len(text) < 200 else text[:199] + "…"


def _reason(error: BaseException | None) -> str:
    if error is None:
        return ""
    line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {line}"[:160]
