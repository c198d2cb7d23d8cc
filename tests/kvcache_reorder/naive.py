"""Slow and obvious versions of what the room computes, and tables to try them on."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from quackllm.kvcache_reorder import Field, Ordering
from quackllm.kvcache_reorder.baselines import Layout
from quackllm.kvcache_reorder.encode import Encoded, Measure, encode

Table = Mapping[str, Sequence[str | None]]

WORDS = ("", "a", "ab", "abc", "abd", "b", "ba", "ü", "üb", "ünder", "null", "x" * 40, "x" * 41)


@st.composite
def tables(draw: st.DrawFn, most_rows: int = 12, most_columns: int = 5) -> Table:
    """Small tables with many repeated values, common prefixes and NULLs."""
    rows = draw(st.integers(0, most_rows))
    columns = draw(st.integers(1, most_columns))
    value = st.sampled_from((*WORDS, None))
    return {
        f"c{index}": draw(st.lists(value, min_size=rows, max_size=rows)) for index in range(columns)
    }


def random_table(rows: int, columns: int, seed: int) -> Table:
    """A table whose columns have from two to `rows` distinct values of different lengths."""
    random = np.random.default_rng(seed)
    table = {}
    for index in range(columns):
        distinct = int(random.integers(2, max(3, rows)))
        texts = ["v" * int(random.integers(1, 30)) + str(i) for i in range(distinct)]
        table[f"c{index}"] = [texts[i] for i in random.integers(0, distinct, rows)]
    return table


def reviews(rows: int, seed: int) -> Table:
    """A table as reviews make them: products of few makers, users, scores that go together."""
    random = np.random.default_rng(seed)
    product = (random.random(rows) ** 2 * rows / 15).astype(int)
    maker = product % 23
    user = (random.random(rows) ** 2 * rows / 4).astype(int)
    score = random.integers(1, 6, rows)
    return {
        "user": [f"user {u} of the site" for u in user],
        "day": [str(20_000 + d) for d in random.integers(0, 300, rows)],
        "score": [f"{s}/5" for s in score],
        "taste": [f"{2 * s}/10" for s in np.minimum(score + random.integers(0, 2, rows), 5)],
        "maker": [f"The {m}th Brewing Company" for m in maker],
        "product": [f"Number {p} Extra Special" for p in product],
        "style": [f"style {p % 11}" for p in product],
    }


def bare(table: Table) -> list[Field]:
    """The columns as fields without keys, for tests of the inner parts."""
    return [Field(name, [v or "" for v in values]) for name, values in table.items()]


def encoded(table: Table, measure: Measure | None = None) -> Encoded:
    """The table as the algorithms see it, in characters."""
    return encode(bare(table), measure or Measure())


def prompts(fields: Sequence[Field], ordering: Ordering) -> list[str]:
    """The texts that the rows of an ordering send, in output order."""
    sent = []
    for row, order in zip(ordering.rows.tolist(), ordering.fields.tolist(), strict=True):
        parts = (fields[c] for c in order)
        sent.append("".join(part.head + part.values[row] + part.tail for part in parts))
    return sent


def common(a: str, b: str) -> int:
    """Characters of the common prefix."""
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length


def trie_hits(texts: Sequence[str], block: int = 1, lead: int = 0) -> int:
    """Characters found in an endless cache of whole blocks, `lead` known ones in front."""
    seen: set[str] = set()
    hits = 0
    for text in texts:
        whole = "#" * lead + text
        blocks = [whole[: end + block] for end in range(0, len(whole) - block + 1, block)]
        if seen:
            hits += block * sum(1 for known in blocks if known in seen)
        seen.update(blocks)
        seen.add("")
    return hits


def whole_values(table: Encoded, layout: Layout) -> int:
    """Units that rows reuse in whole fragments, sorted so that neighbours share most."""
    paths = []
    for row in range(table.rows):
        order = layout.orders[layout.of[row]].tolist()
        paths.append([int(table.offsets[c] + table.codes[c, row]) for c in order])
    paths.sort()
    total = 0
    for above, below in pairwise(paths):
        for a, b in zip(above, below, strict=True):
            if a != b:
                break
            total += int(table.length[a])
    return total


def agreement_bound(texts: dict[str, list[str]]) -> int:
    """No order of rows and fields can share more characters than this.

    In sorted order each row shares its prefix with one other row, and those pairs form
    a spanning tree; a pair shares at most all its equal values and the best partial
    match of one more field. So the maximum spanning tree over rows is a bound.
    """
    rows = len(next(iter(texts.values())))
    if rows < 2:
        return 0
    weight = np.zeros((rows, rows), np.int64)
    for i in range(rows):
        for j in range(i):
            whole = sum(len(v[i]) for v in texts.values() if v[i] == v[j])
            part = max((common(v[i], v[j]) for v in texts.values() if v[i] != v[j]), default=0)
            weight[i, j] = weight[j, i] = whole + part
    best, total = weight[0].copy(), 0
    best[0] = -1
    for _ in range(rows - 1):
        nearest = int(best.argmax())
        total += int(best[nearest])
        left = best >= 0
        best[left] = np.maximum(best, weight[nearest])[left]
        best[nearest] = -1
    return total
