"""The two ways in: `order` for a table, `order_fields` for fields already rendered."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from quackllm.kvcache_reorder.dependencies import given_dependencies
from quackllm.kvcache_reorder.encode import CHARS_PER_TOKEN, Field, TokenCounter, encode
from quackllm.kvcache_reorder.objective import Objective, ObjectiveName, Server, make_objective
from quackllm.kvcache_reorder.ordering import Ordering
from quackllm.kvcache_reorder.portfolio import Algorithm, find_order, find_with
from quackllm.kvcache_reorder.render import Rendering, fields_of


def order(
    table: Any,
    objective: ObjectiveName | Objective = "tokens",
    *,
    server: Server | None = None,
    render: Rendering = "json",
    pin: Sequence[str] = (),
    seconds: float | None = None,
    chars_per_token: float = CHARS_PER_TOKEN,
    counter: TokenCounter | None = None,
    dependencies: Iterable[tuple[str, str]] | None = None,
    algorithm: Algorithm | Literal["best"] = "best",
) -> Ordering:
    """The order of rows, and of fields per row, that reuses most of a prefix cache.

    `table` (n rows, m columns) is a pyarrow.Table, a pandas.DataFrame or a mapping of
    names to sequences; `render` says how its values look in a prompt (see
    `fields_of`). The other arguments are those of `order_fields`.
    """
    begin = time.perf_counter()
    return order_fields(
        fields_of(table, render),
        objective,
        server=server,
        pin=pin,
        seconds=seconds,
        chars_per_token=chars_per_token,
        counter=counter,
        dependencies=dependencies,
        algorithm=algorithm,
        begin=begin,
    )


def order_fields(
    fields: Sequence[Field],
    objective: ObjectiveName | Objective = "blocks",
    *,
    server: Server | None = None,
    pin: Sequence[str] = (),
    seconds: float | None = None,
    chars_per_token: float = CHARS_PER_TOKEN,
    counter: TokenCounter | None = None,
    dependencies: Iterable[tuple[str, str]] | None = None,
    algorithm: Algorithm | Literal["best"] = "best",
    begin: float | None = None,
) -> Ordering:
    """The order for fields whose values are rendered already: the engine's way in.

    `fields`: m of them, of n texts each, with the heads and tails that prompts show.
    `objective`: a name (see `make_objective`) or an `Objective`; with a name, `server`
    describes the cache, and tokens are counted by `counter` (list of texts → counts)
    or estimated as `chars_per_token`. `pin`: names of fields that stay in front, in
    this order. `seconds`: how long the search may take on a slow core; spent as
    counted work and not by the clock, so equal input gives equal output; None for
    0.1 s and a microsecond per value, 0 for one quick tree. `dependencies`: pairs of
    names (determining, determined), found in the data when not given. `algorithm`: one
    contender instead of the best of all ('original', 'fixed', 'ggr', 'ophr' for up to
    16 rows, 'greedy'); it knows no budget. `begin`: the `time.perf_counter()` from
    which `Ordering.seconds` counts.

    Raises ValueError for fields of different lengths, equal names or heads, an unknown
    objective or algorithm, a pinned name or a dependency that is no field, or negative
    seconds.
    """
    begin = time.perf_counter() if begin is None else begin
    if seconds is not None and not seconds >= 0:
        raise ValueError(f"seconds must be 0 or more, not {seconds!r}")
    goal = make_objective(objective, server, chars_per_token, counter)
    names = tuple(field.name for field in fields)
    pinned = _places(names, pin)
    known = None if dependencies is None else given_dependencies(names, dependencies)
    table = encode(fields, goal.measure)
    if algorithm == "best":
        found = find_order(table, goal, pinned, seconds, known)
    else:
        found = find_with(table, goal, algorithm, pinned, known)
    per_row = found.layout.orders.astype(np.int32)[found.layout.of[found.rows]]
    return Ordering(
        names=names,
        rows=found.rows,
        fields=per_row,
        prefix=found.prefix // goal.units,
        objective=goal.name,
        score=goal.score(found.reused),
        baseline_score=goal.score(found.baseline),
        total=goal.score(goal.prompt_length(table.row_length).sum()),
        algorithm=found.algorithm,
        seconds=time.perf_counter() - begin,
        reusable=found.reusable,
    )


def _places(names: tuple[str, ...], pin: Sequence[str]) -> list[int]:
    unknown = [name for name in pin if name not in names]
    if unknown:
        raise ValueError(f"cannot pin {unknown[0]!r}; fields are {', '.join(names)}")
    if len(set(pin)) < len(pin):
        raise ValueError(f"a field can be pinned once: {', '.join(pin)}")
    return [names.index(name) for name in pin]
