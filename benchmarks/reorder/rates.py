"""Hit rates read off the texts themselves, independent of how the room computes them."""

from __future__ import annotations

from itertools import pairwise

from quackllm.kvcache_reorder import Field, Ordering
from quackllm.kvcache_reorder.baselines import Layout

CHARS_PER_TOKEN = 4
BLOCK = 16


def keyed(table: dict[str, list[str]]) -> list[Field]:
    """The fields as `"key": "value", `, as in JSON."""
    return [Field(name, values, f'"{name}": "', '", ') for name, values in table.items()]


def values_only(table: dict[str, list[str]]) -> list[Field]:
    """The fields without keys, as the published measure joins them."""
    return [Field(name, values) for name, values in table.items()]


def texts(fields: list[Field], layout: Layout) -> list[str]:
    """The prompt of each input row."""
    parts = [[f.head + value + f.tail for value in f.values] for f in fields]
    orders = layout.orders.tolist()
    return [
        "".join(parts[column][row] for column in orders[order])
        for row, order in enumerate(layout.of.tolist())
    ]


def layout_of(ordering: Ordering) -> Layout:
    """The order of fields of each input row."""
    place = ordering.positions()
    return Layout(ordering.fields.astype("int64"), place)


def shared(prompts: list[str]) -> list[int]:
    """Common prefix, in characters, of each prompt and the one before it when sorted.

    Its sum is what a character trie over all rows so far finds, in whatever order.
    """
    ordered = sorted(prompts)
    return [0, *(_common(a, b) for a, b in pairwise(ordered))]


def _common(a: str, b: str) -> int:
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def character_rate(prompts: list[str]) -> float:
    """ADRS hit rate: percent of characters that are in a trie of the rows so far."""
    return 100 * sum(shared(prompts)) / sum(map(len, prompts))


def block_rate(prompts: list[str]) -> float:
    """Percent of tokens in whole 16-token blocks seen before, at four characters a token."""
    size = BLOCK * CHARS_PER_TOKEN
    found = sum(length // size * size for length in shared(prompts))
    return 100 * found / sum(map(len, prompts))
