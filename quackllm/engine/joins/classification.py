"""Classification: each value of the left side is asked which values of the right side fit it.

The values of the right side are the labels of LLM_CLASSIFY with several labels, in batches that
fit a prompt, so that calls are linear in the values of the left side. The model is asked another
question than LLM_FILTER asks, so pairs may be missed and pairs may be wrong; both are estimated
from a sample of pairs for which LLM_FILTER is asked as well, and whose answers count.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from quackllm.engine.joins.checked import FALSE, TRUE, UNKNOWN, OtherAnswers
from quackllm.engine.joins.sides import NULL, JoinPairs
from quackllm.engine.run import Run
from quackllm.kvcache_reorder.encode import CHARS_PER_TOKEN
from quackllm.optimizer.program import PairSearch
from quackllm.udfs.base import Call
from quackllm.udfs.prompt import fill_template

LONGEST_LABEL = 200
"""Characters of a value above which it is no label."""
MOST_LABELS = 50
"""Labels of one prompt."""
MOST_CHARACTERS = 4_000
"""Characters of the labels of one prompt, unless a quarter of the model's window is less."""
NOT_PASSED_ON = ("strategy", "candidates", "default_value", "max_tokens", "pin")
"""Options of LLM_FILTER that mean nothing to the other question."""


def labels_of(call: Call, fields: Sequence[pa.Array]) -> list[str | None] | None:
    """The label of each value of the right side, None for NULL; None where they are no labels.

    fields: of the right side, as the model may see them.
    """
    if len(fields) != 1 or "prompt" not in json.loads(call.spec)["constants"]:
        return None
    labels = [_label(value) for value in fields[0].to_pylist()]
    longest = max((len(label) for label in labels if label is not None), default=0)
    return labels if 0 < longest <= LONGEST_LABEL else None


def _label(value: str) -> str | None:
    if value == NULL:
        return None
    read = json.loads(value)
    return (" ".join(read.split()) or None) if isinstance(read, str) else value


@dataclass(frozen=True)
class Classified:
    """What the classification says of each pair. Left over are those whose value is no label.

    calls: the calls that were asked. asked: how many prompts that were.
    """

    said: OtherAnswers
    calls: tuple[Call, ...]
    asked: int


def classify(
    call: Call, search: PairSearch, pairs: JoinPairs, labels: Sequence[str | None], run: Run
) -> Classified:
    """Ask every left value which labels fit it. Raises what `Run.answer` does.

    labels: of the values of the right side. A left value is asked about the labels that it is
        paired with, together with those that come with them in a prompt.
    """
    answers = np.full(len(pairs), UNKNOWN, np.int8)
    of_label = np.full(len(pairs.right), -1)
    calls, asked = [], 0
    window = run.provider(call).capabilities.context_window
    for number, batch in enumerate(_batches(labels, window)):
        of_label[batch] = number
        named = {at: labels[at] for at in batch}
        question = _question(call, search, [str(label) for label in named.values()], run)
        concerned = np.flatnonzero(of_label[pairs.at_right] == number)
        rows, place = np.unique(pairs.at_left[concerned], return_inverse=True)
        fields = [field.take(pa.array(rows)) for field in pairs.left.fields]
        given = run.answer(question, fields, len(rows))
        calls.append(question)
        asked += len(rows)
        chosen = [None if one is None else set(json.loads(one)) for one in given.to_pylist()]
        for at, row in zip(concerned.tolist(), place.tolist(), strict=True):
            fitting = chosen[row]
            if fitting is not None:
                label = named[int(pairs.at_right[at])]
                answers[at] = TRUE if label in fitting else FALSE
    unlabelled = np.flatnonzero(of_label[pairs.at_right] < 0)
    return Classified(OtherAnswers(answers, unlabelled), tuple(calls), asked)


def _batches(labels: Sequence[str | None], window: int | None) -> Iterator[list[int]]:
    """Cut labels, by position, into batches; equal ones, but for case, go into different ones."""
    most = (
        MOST_CHARACTERS if window is None else min(MOST_CHARACTERS, window * CHARS_PER_TOKEN // 4)
    )
    seen = Counter[str]()
    rounds: dict[int, list[int]] = defaultdict(list)
    for at, label in enumerate(labels):
        if label is not None:
            rounds[seen[label.casefold()]].append(at)
            seen[label.casefold()] += 1
    for each in rounds.values():
        batch: list[int] = []
        length = 0
        for at in each:
            size = len(str(labels[at]))
            if batch and (len(batch) == MOST_LABELS or length + size > most):
                yield batch
                batch, length = [], 0
            batch.append(at)
            length += size
        yield batch


def _question(call: Call, search: PairSearch, labels: list[str], run: Run) -> Call:
    """Bind the question which of some labels fit a left value."""
    spec = json.loads(call.spec)
    [right] = search.strategy.right
    prompt = fill_template(spec["constants"]["prompt"], call.fields)
    task = f'a label fits as "{call.fields[right]}" where this is true: {prompt}'
    options = {name: value for name, value in spec["options"].items() if name not in NOT_PASSED_ON}
    fields = [call.fields[at] for at in search.strategy.left]
    more = {"output_mode": "multi", "task": task}
    return run.bound("llm_classify", {"labels": labels}, {**options, **more}, fields)
