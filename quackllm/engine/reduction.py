"""One answer about a list of any length: chunks that fit into a prompt, and a tree above them.

Chunks end where their content says so (content-defined chunking: Muthitacharoen, Chen and
Mazières, "A Low-bandwidth Network File System", SOSP 2001): a value ends its chunk with a
probability that grows with its length, drawn from its own hash. A value that is added, changed
or gone therefore changes the chunk around it and at most a few behind, not all that follow;
the others are the same questions as before, whose answers are remembered. Answers to chunks
are cut into chunks in the same way, level by level, until one is left. A level of all lists is
one round of calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import blake2b

from quackllm.kvcache_reorder.encode import CHARS_PER_TOKEN
from quackllm.udfs.base import Answered, Call, Reduction
from quackllm.udfs.rounds import in_step

SHORTEST = 0.25
"""Part of the room in a prompt that a chunk fills before a value may end it."""

MEAN = 0.5
"""Part of the room after which, from there on, a chunk ends on average."""

FEWEST_MERGED = 2
"""Answers that are combined at once at least, or the tree would not get narrower."""

LEAST_ROOM = 64
"""Estimated tokens of values that a prompt shows at least, however small the window."""

USABLE = 0.8
"""Part of the window that is filled: chat templates take some, and tokens are estimated."""


class Step(Enum):
    """What a prompt shows: a whole list, a part of one, or answers to parts."""

    WHOLE = "whole"
    PART = "part"
    MERGE = "merge"


@dataclass(frozen=True)
class Chunk:
    """Values for one prompt: JSON texts, and what they are."""

    step: Step
    items: tuple[str, ...]

    @property
    def text(self) -> str:
        """The values as one JSON array."""
        return f"[{','.join(self.items)}]"

    @property
    def is_decided(self) -> bool:
        """Whether it is one answer by itself, which goes up as it is."""
        return self.step is Step.MERGE and len(self.items) == 1


Ask = Callable[[Step, Sequence[str]], Sequence[Answered]]
"""Makes the calls of one step for the texts of their values; equal ones are asked once."""


def step_call(call: Call, step: Step) -> Call:
    """Return the call that one step makes.

    It counts as the same stage (`spec`), but is another question. What a failure means is
    decided for the list as a whole, so a default value is none of its own.
    """
    declaration = call.declaration
    reduction = declaration.reduction
    assert reduction is not None
    own = replace(call, default=None, on_error=call.on_error if call.default is None else "null")
    if step is Step.WHOLE:
        return own
    instruction = reduction.part if step is Step.PART else reduction.merge
    asked = {**json.loads(call.identity), "step": step.value}
    return replace(
        own,
        declaration=replace(declaration, instruction=instruction),
        identity=json.dumps(asked, ensure_ascii=False, separators=(",", ":")),
    )


def room(call: Call, reduction: Reduction, window: int | None) -> int:
    """Return the estimated tokens of values that one prompt may show.

    window: tokens of prompt and answer together, None where it is unknown.
    """
    if window is None:
        return reduction.tokens
    instruction = tokens_of(max(reduction.part, reduction.merge, key=len))
    left = USABLE * (window - call.max_tokens - instruction)
    return max(LEAST_ROOM, min(reduction.tokens, int(left)))


def reduce_lists(texts: Sequence[str], limit: int, ask: Ask) -> list[Answered]:
    """Answer a call for each list.

    texts: JSON, one per row: an array, or a text that is read in pieces.
    limit: estimated tokens of values per prompt, see `room`.
    ask: a failure, or NULL, for a part is that of its whole list.
    """
    distinct = list(dict.fromkeys(texts))
    reductions = [_reduced(text, limit) for text in distinct]
    found = in_step(reductions, lambda chunks: _answers(chunks, ask))
    answers = dict(zip(distinct, found, strict=True))
    return [answers[text] for text in texts]


def _reduced(text: str, limit: int) -> Generator[list[Chunk], Sequence[Answered], Answered]:
    """Reduce one list, level by level."""
    chunks = first_chunks(text, limit)
    while chunks:
        answers = yield chunks
        missing = [answer for answer in answers if not isinstance(answer, str)]
        if missing or len(answers) == 1:
            return missing[0] if missing else answers[0]
        chunks = _next_chunks(answers, limit)
    return None


def first_chunks(text: str, limit: int) -> list[Chunk]:
    """Cut a list; one chunk where all of it has room, none where it has no values."""
    chunks = list(cut(values_of(text, limit), limit))
    step = Step.WHOLE if len(chunks) == 1 else Step.PART
    return [Chunk(step, chunk) for chunk in chunks]


def _next_chunks(answers: Sequence[Answered], limit: int) -> list[Chunk]:
    items = [json.dumps(answer, ensure_ascii=False) for answer in answers]
    return [Chunk(Step.MERGE, chunk) for chunk in cut(items, limit, FEWEST_MERGED)]


def _answers(chunks: Sequence[Chunk], ask: Ask) -> list[Answered]:
    """Answer chunks, one round of calls for each step that is among them."""
    answers: dict[int, Answered] = {
        at: json.loads(chunk.items[0]) for at, chunk in enumerate(chunks) if chunk.is_decided
    }
    for step in Step:
        places = [at for at, c in enumerate(chunks) if c.step is step and not c.is_decided]
        if places:
            found = ask(step, [chunks[at].text for at in places])
            answers.update(zip(places, found, strict=True))
    return [answers[at] for at in range(len(chunks))]


def cut(items: Sequence[str], limit: int, fewest: int = 1) -> Iterator[tuple[str, ...]]:
    """Cut items into chunks of at most `limit` estimated tokens and at least `fewest` items.

    The last chunk may have fewer. All items are one chunk where they have room.
    """
    sizes = [tokens_of(item) for item in items]
    if items and sum(sizes) <= limit:
        yield tuple(items)
        return
    chunk: list[str] = []
    filled = 0
    for item, size in zip(items, sizes, strict=True):
        if len(chunk) >= fewest and filled + size > limit:
            yield tuple(chunk)
            chunk, filled = [], 0
        chunk.append(item)
        filled += size
        enough = len(chunk) >= fewest and filled >= SHORTEST * limit
        if enough and _drawn(item) < size / (MEAN * limit):
            yield tuple(chunk)
            chunk, filled = [], 0
    if chunk:
        yield tuple(chunk)


def _drawn(item: str) -> float:
    """Draw a number from 0 to 1 from an item's hash."""
    digest = blake2b(item.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def values_of(text: str, limit: int) -> list[str]:
    """Return the values of a list as JSON texts without NULLs, long ones in pieces."""
    loaded = json.loads(text)
    values = loaded if isinstance(loaded, list) else [loaded]
    items = []
    for value in values:
        if value is not None:
            item = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            whole = tokens_of(item) <= limit
            items += [item] if whole else pieces(value if isinstance(value, str) else item, limit)
    return items


def pieces(text: str, limit: int) -> list[str]:
    """Cut a long text, between words where there are any; return JSON texts."""
    found = []
    start = 0
    while start < len(text):
        end = min(len(text), start + int(limit * CHARS_PER_TOKEN))
        while end - start > 1 and (tokens := tokens_of(text[start:end])) > limit:
            end = start + max(1, (end - start) * limit // tokens)
        between = text.rfind(" ", start, end) + 1
        if end < len(text) and between > (start + end) // 2:
            end = between
        found.append(json.dumps(text[start:end], ensure_ascii=False))
        start = end
    return found


def tokens_of(text: str) -> int:
    """Estimate the tokens of a text: letters beyond ASCII are taken for one each."""
    plain = len(text.encode("ascii", "ignore"))
    return int(plain / CHARS_PER_TOKEN) + len(text) - plain + 1


def merges_expected(parts: int, limit: int, answer_tokens: int) -> int:
    """Return about how many calls combine the answers to so many parts."""
    at_once = max(FEWEST_MERGED, int((SHORTEST + MEAN) * limit / answer_tokens))
    calls = 0
    while parts > 1:
        parts = -(-parts // at_once)
        calls += parts
    return calls
