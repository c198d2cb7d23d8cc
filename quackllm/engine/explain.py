"""EXPLAIN and EXPLAIN ANALYZE of statements that call a model: as data, and drawn as text.

The data are described in docs/explain.md: their keys are kept.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from quackllm.engine.alternatives import Alternative
from quackllm.engine.early_stop import FIRST_BATCH
from quackllm.engine.estimates import Estimates, StageEstimate
from quackllm.engine.first_partner import PATIENCE
from quackllm.engine.history import StageStats, StatementStats, money
from quackllm.engine.joins.wording import measured_in_words, rejected_in_words, strategy_in_words
from quackllm.engine.table_functions.resolver import Made, UseEstimate
from quackllm.optimizer.cost import Cost, total
from quackllm.optimizer.program import BlockStage, MaterializeStage, ModelStage, Program
from quackllm.optimizer.sampling import SAMPLE_ROWS
from quackllm.udfs.base import Wanted

WIDTH = 96
"""Characters of a line."""
LABEL = 12
"""Characters of the column that names things."""
LONGEST = 12
"""Lines of a text that are shown."""

PLACES = {"expressions": "SELECT", "group": "GROUP BY", "order": "ORDER BY"}
"""What the clauses are called whose names in the tree are not those in SQL."""

RETURNING = "RETURNING"

Entry = dict[str, Any]


@dataclass(frozen=True)
class Parts:
    """What of a statement that is no query is planned.

    query: the query that is asked first, if there is one. after: the query over the rows that
        were changed, '' for none. unstaged: why other calls run by the scalar function.
    """

    query: str | None
    after: str = ""
    unstaged: tuple[str, ...] = ()


def explained(
    program: Program,
    estimates: Estimates,
    actual: StatementStats | None = None,
    alternatives: Sequence[Alternative] | None = None,
    *,
    undecided: bool = False,
    refusal: str | None = None,
    made: Made | None = None,
    after: Program | None = None,
    unstaged: Sequence[str] = (),
) -> Entry:
    """Describe a program as data.

    alternatives: when they were asked for. undecided: whether a sample may still change
        the order of predicates. refusal: why a budget would not let the program begin.
    made: the table functions of the statement, whose rows the program reads. after: the
        program over the rows that a change returns. unstaged: why calls outside of both are.
    """
    stages: list[Entry] = []
    shown: set[str] = set()
    counted: list[StageEstimate] = []
    for each in made.uses if made else ():
        stages.extend(_use_entries(each, len(counted), actual, shown))
        counted.extend(estimate for some in each.estimates for estimate in some.values())
    before = made.stages_before if made else 0
    stages.extend(_program_entries(program, estimates, before, actual, shown))
    if program.final:
        stages.append({"stage": "result", "sql": program.shown})
    if after is not None:
        stages.extend(_entries_after(after, before + len(program.model_stages)))
    reasons = (*program.unstaged, *(after.unstaged if after else ()), *unstaged)
    stages.extend({"stage": "scalar function", "reason": reason} for reason in reasons)
    for spec, stats in actual.stages.items() if actual else ():
        if spec not in shown:
            stages.append(_unplanned(stats))
    behind = {number + before: estimate for number, estimate in estimates.items()}
    everything = {**dict(enumerate(counted, 1)), **behind}
    described: Entry = {"stages": stages, "total": _totals(everything, actual)}
    if alternatives is not None:
        described["alternatives"] = [
            {"name": other.name, "expected": asdict(other.cost)} for other in alternatives
        ]
    described["order_from_sample"] = undecided
    described["refused"] = refusal
    described["rules"] = list(program.applied)
    return described


def _entries_after(program: Program, before: int) -> list[Entry]:
    """Describe what is asked about the rows that a change returns, which are not there yet."""
    entries = []
    for block in program.stages:
        if isinstance(block, MaterializeStage):
            continue
        for part in block.stages:
            entry = {**_model_entry(part, block), **_estimated(None)}
            entry.update(number=before + part.number, clause=RETURNING)
            entries.append(entry)
    return entries


def _program_entries(
    program: Program,
    estimates: Estimates,
    before: int,
    actual: StatementStats | None,
    shown: set[str],
) -> list[Entry]:
    """Describe the stages of a program; `shown` has the specs that are told of, and gets more."""
    entries: list[Entry] = []
    planned = {part.call.spec for part in program.model_stages}
    kept = iter(program.kept_shown)
    for stage in program.stages:
        if isinstance(stage, MaterializeStage):
            entries.append({"stage": "kept rows", "sql": next(kept)})
            continue
        for part in stage.stages:
            entry = _model_entry(part, stage, estimates.get(part.number))
            entry["number"] += before
            entry.update(_strategy(part, estimates.get(part.number)))
            entry.update(_estimated(estimates.get(part.number)))
            if actual is not None and part.call.spec not in shown:
                entry.update(_happened(actual.stages.get(part.call.spec)))
                shown.add(part.call.spec)
            entries.append(entry)
            for spec, stats in _made_for(entry["number"], actual, shown | planned):
                entries.append(_unplanned(stats))
                shown.add(spec)
    return entries


def _made_for(
    number: int, actual: StatementStats | None, known: Set[str]
) -> list[tuple[str, StageStats]]:
    """List by spec the calls that a stage has made to be answered, but for those known."""
    stages = {} if actual is None else actual.stages
    return [
        (spec, stats)
        for spec, stats in stages.items()
        if stats.helps == number and spec not in known
    ]


def _unplanned(stats: StageStats) -> Entry:
    """Describe calls that are no stage of the plan: of another stage's, or of DuckDB's."""
    name = "scalar function" if stats.helps is None else f"for model {stats.helps}"
    return {"stage": name, "function": stats.function.upper(), **_happened(stats)}


def _use_entries(
    made: UseEstimate, before: int, actual: StatementStats | None, shown: set[str]
) -> list[Entry]:
    """Describe what a use of a table function asks, as stages of its own."""
    use = made.use
    entries: list[Entry] = [{"stage": "table function", "function": use.function, "sql": use.sql}]
    for (planned, _), estimates in zip(use.questions, made.estimates, strict=True):
        for block in planned.program.stages:
            if isinstance(block, MaterializeStage):
                continue
            for part in block.stages:
                estimate = estimates.get(part.number)
                entry = _model_entry(part, block)
                entry.update(_estimated(estimate))
                entry.update(number=before + part.number, clause=use.function)
                if actual is not None and part.call.spec not in shown:
                    happened = actual.stages.get(part.call.spec)
                    entry.update(_happened(happened))
                    entry["number"] = happened.number if happened else entry["number"]
                    shown.add(part.call.spec)
                entries.append(entry)
        before += len(estimates)
    return entries


def _model_entry(
    stage: ModelStage, block: BlockStage, estimate: StageEstimate | None = None
) -> Entry:
    search = None if estimate is None else estimate.search
    in_rounds = search is None or search.name == "exact"
    entry = {
        "stage": "model",
        "number": stage.number,
        "function": stage.call.function.upper(),
        "clause": PLACES.get(stage.clause, stage.clause.upper()),
        "constants": json.loads(stage.call.spec)["constants"],
        "fields": list(stage.call.fields),
        "model": stage.call.model,
        "ranks": _ranks_read(stage.wanted) if stage.is_joint else None,
        "if_any_row" if stage.is_joint else "rows_where": stage.guard or None,
        "stop_after_rows": block.stop_after if in_rounds else None,
        "stop_for_each": (list(block.keys) or None) if in_rounds else None,
        "enough_rows": block.partners.stop_after if block.partners and in_rounds else None,
        "first_partner": (block.partners is not None or None) if in_rounds else None,
        "stop_rows_where": " AND ".join(block.fulfilling) or None,
    }
    return {name: value for name, value in entry.items() if value is not None}


def _ranks_read(wanted: Wanted) -> str | None:
    """Say which ranks are found out; None where all of them are."""
    ends = [("first", wanted.first), ("last", wanted.last)]
    return " and ".join(f"the {end} {n:,}" for end, n in ends if n is not None) or None


def _strategy(stage: ModelStage, estimate: StageEstimate | None) -> Entry:
    """Say how the pairs of a join are chosen, and what the other ways would ask."""
    if stage.search is None:
        told = None if estimate is None else estimate.advice
        return {} if told is None else {"advice": told}
    search = None if estimate is None else estimate.search
    if search is None:
        return {"strategy": {"name": stage.search.strategy.name}}
    return {
        "strategy": {
            "name": search.name,
            "approximate": search.name != "exact",
            "pairs": search.counts.pairs,
            "embeddings": search.way.embeddings,
            "rejected": {way.name: way.calls for way in search.ways if way.name != search.name},
            "tokens_in": {way.name: way.tokens for way in search.ways},
        }
    }


def _estimated(estimate: StageEstimate | None) -> Entry:
    if estimate is None:
        return {"at_most": None, "expected": None}
    by_batch = {"by_batch": True, "batch_price": estimate.batch_price} if estimate.by_batch else {}
    if estimate.demand is None:
        return {**by_batch, "at_most": None, "expected": None}
    assert estimate.at_most is not None and estimate.expected is not None
    measured = estimate.measured
    return {
        **by_batch,
        "tuples": estimate.demand.tuples,
        "remembered": estimate.demand.remembered,
        **({"row_first": True} if estimate.row_first else {}),
        **({"in_rounds": True} if estimate.demand.usual != 1 else {}),
        "at_most": asdict(estimate.at_most),
        "expected": asdict(estimate.expected),
        "basis": {
            "share": estimate.share,
            "share_from_answers": estimate.answers,
            "tokens_out_per_call": measured.output,
            "measured_calls": measured.calls,
            "tokens_in_by": "tokenizer" if estimate.demand.tokenized else "characters",
            "tokens_in_factor": measured.prompt,
            "tokens_cached_factor": measured.reuse,
        },
    }


def _happened(stats: StageStats | None) -> Entry:
    if stats is None:
        return {"actual": asdict(Cost(0))}
    return {
        "actual": asdict(_cost_of(stats)),
        "answered_by": {"model": stats.model, "endpoint": stats.endpoint},
        "answered_from_cache": stats.cached,
        "retries": stats.retries,
        "failures": dict(stats.failures),
        "undecided": stats.undecided,
        **({} if stats.strategy is None else {"measured": asdict(stats.strategy)}),
    }


def _cost_of(stats: StageStats | StatementStats) -> Cost:
    return Cost(
        calls=stats.calls,
        tokens_in=stats.prompt_tokens,
        tokens_cached=stats.cached_tokens,
        tokens_out=stats.completion_tokens,
        dollars=stats.cost,
        seconds=round(stats.seconds, 6),
    )


def _totals(estimates: Estimates, actual: StatementStats | None) -> Entry:
    told = [estimate for estimate in estimates.values() if estimate.demand is not None]
    totals: Entry = {
        "not_told": [number for number, one in estimates.items() if one.demand is None],
        "at_most": asdict(total(e.at_most for e in told if e.at_most is not None)),
        "expected": asdict(total(e.expected for e in told if e.expected is not None)),
    }
    if not told:
        totals["at_most"] = totals["expected"] = None
    if actual is not None:
        totals["actual"] = asdict(_cost_of(actual))
    return totals


# As text

COLUMNS: Mapping[str, str] = {
    "calls": "calls",
    "tokens_in": "tokens in",
    "tokens_cached": "cached",
    "tokens_out": "tokens out",
    "dollars": "dollars",
    "seconds": "seconds",
}
"""The columns of a table of costs, by the name of the figure."""

TOKENS_IN_BY: Mapping[str, str] = {
    "tokenizer": "tokens in: by the model's tokenizer",
    "characters": "tokens in: estimated, 4 characters each",
}


def as_text(described: Entry) -> str:
    """Draw the data of `explained` for a person, first stage first."""
    columns = _columns(described)
    lines: list[str] = []
    thorough = "alternatives" in described or "actual" in described["total"]
    for entry in described["stages"]:
        lines.append(_headline(entry))
        lines.extend(_details(entry))
        lines.extend(_table(_costs(entry), columns))
        lines.extend(_remarks(entry, thorough=thorough))
    totals = described["total"]
    if _costs(totals):
        lines.append("● total")
        lines.extend(_table(_costs(totals), columns))
        lines.extend(_remarks_on_total(totals))
    others = described.get("alternatives")
    if others:
        lines.append("● alternatives rejected (expected)")
        width = max(len(other["name"]) for other in others)
        rows = [(other["name"], other["expected"]) for other in others]
        lines.extend(_table([("this plan", totals["expected"]), *rows], columns, width))
    elif others is not None:
        lines.append("● alternatives rejected: none that costs something else")
    if described["order_from_sample"]:
        lines.append(
            f"order of predicates: as written; a sample of {SAMPLE_ROWS} rows may change it"
        )
    if described["refused"]:
        lines.extend(_wrapped(f"refused: {described['refused']}"))
    if described["rules"]:
        lines.append("rules: " + ", ".join(described["rules"]))
    return "\n".join(lines)


def _columns(described: Entry) -> list[str]:
    """The figures that are known of anything; money and time are not, as a rule."""
    costs = [cost for entry in described["stages"] for _, cost in _costs(entry)]
    costs += [cost for _, cost in _costs(described["total"])]
    return [name for name in COLUMNS if any(cost[name] is not None for cost in costs)]


def _costs(entry: Entry) -> list[tuple[str, Entry]]:
    named = [("at most", "at_most"), ("expected", "expected"), ("actual", "actual")]
    return [(label, entry[key]) for label, key in named if entry.get(key) is not None]


def _headline(entry: Entry) -> str:
    number = f" {entry['number']}" if "number" in entry else ""
    function = f": {entry['function']}" if "function" in entry else ""
    clause = f" in {entry['clause']}" if "clause" in entry else ""
    return f"● {entry['stage']}{number}{function}{clause}"


def _details(entry: Entry) -> list[str]:
    lines: list[str] = []
    for name, value in entry.get("constants", {}).items():
        lines.extend(_detail(name, json.dumps(value, ensure_ascii=False)))
    lines.extend(_detail("fields", ", ".join(entry.get("fields", []))))
    lines.extend(_detail("model", entry.get("model")))
    lines.extend(_detail("ranks", entry.get("ranks")))
    lines.extend(_detail("rows where", entry.get("rows_where")))
    lines.extend(_detail("if any row", entry.get("if_any_row")))
    if entry.get("row_first"):
        lines.extend(_detail("row first", "the questions about these fields share its prompt"))
    if entry.get("by_batch"):
        lines.extend(_detail("by batch", _by_batch(entry["batch_price"])))
    if "stop_after_rows" in entry:
        lines.extend(_detail("stops after", _enough(entry)))
        lines.extend(_detail("in batches", _batches(entry)))
    lines.extend(_detail("strategy", strategy_in_words(entry)))
    lines.extend(_detail("rejected", rejected_in_words(entry.get("strategy"))))
    lines.extend(_detail("advice", entry.get("advice")))
    for name, words in measured_in_words(entry.get("measured")).items():
        lines.extend(_detail(name, words))
    lines.extend(_detail("sql", entry.get("sql")))
    lines.extend(_detail("reason", entry.get("reason")))
    if "answered_by" in entry:
        by = entry["answered_by"]
        lines.extend(_detail("answered by", f"{by['model']} ({by['endpoint']})"))
    return lines


def _by_batch(price: float | None) -> str:
    """Say what the provider's batch API means for a stage."""
    part = "" if price is None else f", at {price:g} of the price"
    return f"the answers come within a day{part}"


def _enough(entry: Entry) -> str:
    rows = entry["stop_after_rows"]
    if "first_partner" in entry:
        enough = entry.get("enough_rows")
        until = (
            "" if enough is None else f", and {enough:,} row{'' if enough == 1 else 's'} with one"
        )
        return f"the first match of each {', '.join(entry['stop_for_each'])}{until}"
    parts = [f"{rows:,} row{'' if rows == 1 else 's'}"]
    if "stop_rows_where" in entry:
        parts.append(f"where {entry['stop_rows_where']}")
    if "stop_for_each" in entry:
        parts.append(f"for each {', '.join(entry['stop_for_each'])}")
    return " ".join(parts)


def _batches(entry: Entry) -> str:
    """Say how much can be asked in vain."""
    if "first_partner" in entry:
        return f"1 pair of each, and 1 more for every {PATIENCE} that did not match"
    if "stop_for_each" in entry:
        return f"1 tuple of each value, then twice as many each time; {FIRST_BATCH} in all at least"
    first = max(FIRST_BATCH, entry["stop_after_rows"])
    return f"of {first:,} at first, then of at most twice the one before"


def _detail(name: str, value: str | None) -> list[str]:
    """Write a name and its text, wrapped between words, cut when it is very long."""
    if not value:
        return []
    wrapped = textwrap.wrap(
        " ".join(value.split()),
        WIDTH - LABEL - 5,
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=LONGEST,
        placeholder=" …",
    )
    names = [name, *[""] * (len(wrapped) - 1)]
    return [f"│   {label:<{LABEL}} {line}" for label, line in zip(names, wrapped, strict=True)]


def _table(
    rows: Sequence[tuple[str, Entry]], columns: Sequence[str], width: int = LABEL
) -> list[str]:
    if not rows:
        return []
    head = "".join(f"{COLUMNS[name]:>12}" for name in columns)
    lines = [f"│   {'':<{width}}{head}"]
    for label, cost in rows:
        cells = "".join(f"{_cell(name, cost[name]):>12}" for name in columns)
        lines.append(f"│   {label:<{width}}{cells}")
    return lines


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "dollars":
        return money(value)
    return f"{value:,.2f}" if name == "seconds" else f"{value:,}"


def _remarks(entry: Entry, *, thorough: bool) -> list[str]:
    """Say what the estimates rest on, and what went wrong.

    thorough: also what is the same for all stages as a rule.
    """
    if entry["stage"] == "model" and entry["at_most"] is None:
        rows = "the rows that are changed" if entry["clause"] == RETURNING else "earlier answers"
        return _remark(f"its arguments stand on {rows}: not told beforehand")
    remarks: list[str] = []
    basis = entry.get("basis")
    if entry.get("remembered"):
        remarks.append(f"{entry['remembered']:,} of {entry['tuples']:,} answers are there already")
    if basis is not None and basis["share_from_answers"] is not None:
        seen = basis["share_from_answers"]
        source = f"as of {seen:,} answers seen" if seen else "assumed"
        remarks.append(f"{basis['share']:.0%} of the calls expected ({source})")
    if entry.get("in_rounds"):
        remarks.append("calls in rounds: how many it takes depends on the answers")
    if basis is not None and basis["measured_calls"]:
        calls = basis["measured_calls"]
        remarks.append(f"{basis['tokens_out_per_call']:.1f} tokens out per call (of {calls:,})")
    elif basis is not None:
        remarks.append("tokens out: at most, none measured yet")
    if basis is not None and thorough:
        remarks.append(TOKENS_IN_BY[basis["tokens_in_by"]])
    if entry.get("answered_from_cache", 0) > entry.get("remembered", 0):
        remarks.append(f"{entry['answered_from_cache']:,} answers from the cache")
    if entry.get("retries"):
        remarks.append(f"{entry['retries']:,} tried again")
    for cause, count in entry.get("failures", {}).items():
        remarks.append(f"{count:,} failed: {cause}")
    if entry.get("undecided"):
        remarks.append(f"{entry['undecided']:,} undecided: a budget was reached")
    return _remark(" · ".join(remarks))


def _remarks_on_total(totals: Entry) -> list[str]:
    missing = totals["not_told"]
    if not missing:
        return []
    return _remark("estimates without model " + ", ".join(map(str, missing)))


def _remark(text: str) -> list[str]:
    return [f"│   {line}" for line in _wrapped(text, WIDTH - 4)]


def _wrapped(text: str, width: int = WIDTH) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
