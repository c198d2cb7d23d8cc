"""What caches reuse: an endless one, one that looks back a single row, a small one."""

from collections import OrderedDict
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.kvcache_reorder.prefix import bounded_prefixes, neighbour_prefixes, sorted_prefixes
from tests.kvcache_reorder.naive import Table, common, encoded, tables, trie_hits


def marked(table: Table) -> Table:
    """The table with every field starting with its own letter: no two fields begin alike."""
    return {
        name: [chr(ord("A") + place) + (value or "") + "." for value in values]
        for place, (name, values) in enumerate(table.items())
    }


def layouts(table: Table, data: st.DataObject) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Random orders of fields for the rows, and the texts they make."""
    rows, columns = len(table["c0"]), len(table)
    order = st.permutations(range(columns))
    orders = np.array(data.draw(st.lists(order, min_size=1, max_size=3)))
    layout = st.lists(st.integers(0, len(orders) - 1), min_size=rows, max_size=rows)
    of = np.array(data.draw(layout), np.int64)
    names = list(table)
    texts = ["".join(table[names[c]][r] or "" for c in orders[of[r]]) for r in range(rows)]
    return orders, of, texts


@given(tables().map(marked), st.data())
@settings(max_examples=50, deadline=None)
def test_sorted_prefixes_are_those_of_a_trie(table: Table, data: st.DataObject) -> None:
    orders, of, texts = layouts(table, data)
    coded = encoded(table)
    rows, prefix = sorted_prefixes(coded, orders, of)
    assert sorted(rows.tolist()) == list(range(coded.rows))
    assert prefix.sum() == trie_hits(texts)
    sent = [texts[r] for r in rows.tolist()]
    assert prefix.tolist() == [0, *(common(a, b) for a, b in pairwise(sent))][: len(texts)]


@given(tables().map(marked), st.data())
@settings(max_examples=40, deadline=None)
def test_neighbour_prefixes_look_back_one_row(table: Table, data: st.DataObject) -> None:
    orders, of, texts = layouts(table, data)
    coded = encoded(table)
    rows = np.array(data.draw(st.permutations(range(coded.rows))), np.int64)
    sent = [texts[r] for r in rows.tolist()]
    expected = [0, *(common(a, b) for a, b in pairwise(sent))][: len(texts)]
    assert neighbour_prefixes(coded, orders, of, rows).tolist() == expected


def least_recently_used(texts: list[str], block: int, capacity: int) -> list[int]:
    held: OrderedDict[str, None] = OrderedDict()
    most, found = capacity // block, []
    for text in texts:
        names = [text[: end + block] for end in range(0, len(text) - block + 1, block)]
        hits = 0
        while hits < len(names) and names[hits] in held:
            hits += 1
        found.append(hits * block)
        for name in reversed(names[:most]):
            held[name] = None
            held.move_to_end(name)
        while len(held) > most:
            held.popitem(last=False)
    return found


@given(tables().map(marked), st.data(), st.integers(1, 5), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_a_bounded_cache_drops_the_least_recently_used_block(
    table: Table, data: st.DataObject, block: int, capacity: int
) -> None:
    orders, of, texts = layouts(table, data)
    coded = encoded(table)
    rows, prefix = sorted_prefixes(coded, orders, of)
    sent = np.array(data.draw(st.permutations(range(coded.rows))), np.int64)
    found = bounded_prefixes(rows, prefix, coded.row_length, sent, block, capacity)
    assert found.tolist() == least_recently_used([texts[r] for r in sent], block, capacity)


@given(tables().map(marked), st.data(), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_large_bounded_cache_is_an_endless_one(
    table: Table, data: st.DataObject, block: int
) -> None:
    orders, of, texts = layouts(table, data)
    coded = encoded(table)
    rows, prefix = sorted_prefixes(coded, orders, of)
    sent = np.arange(coded.rows)
    found = bounded_prefixes(rows, prefix, coded.row_length, sent, block, 1 << 30)
    assert found.sum() == trie_hits(texts, block)
