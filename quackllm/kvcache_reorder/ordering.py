"""The order of rows and fields that was chosen, as numbers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Ordering:
    """In which order rows are sent, and in which order each one shows its fields.

    `names` (m,): the fields in input order. `rows` (n,): input row numbers in output
    order. `fields` (n, m): for each output row the column numbers in prompt order.
    `prefix` (n,): tokens (characters, for objectives that count them) of its fields
    that each output row shares with the output row before it.

    `score`: what the objective counts for this order, `baseline_score` for the order
    of the input, `total` for a cache that had seen everything; the instruction is
    part of all three. In characters, tokens, or money for 'cost'. `reusable` is False
    when no order could reuse anything but the instruction: rows and fields are then
    those of the input. `algorithm` and `seconds`: which contender won, and the time
    the whole search took.
    """

    names: tuple[str, ...]
    rows: NDArray[np.int64]
    fields: NDArray[np.int32]
    prefix: NDArray[np.int64]
    objective: str
    score: float
    baseline_score: float
    total: float
    algorithm: str
    seconds: float
    reusable: bool

    @property
    def hit_rate(self) -> float:
        """Share of the total that this order reuses, 0 for an empty table."""
        return self.score / self.total if self.total else 0.0

    @property
    def baseline_hit_rate(self) -> float:
        """Share of the total that the order of the input reuses."""
        return self.baseline_score / self.total if self.total else 0.0

    def positions(self) -> NDArray[np.int64]:
        """For each input row its place in the output, shape (n,): the inverse of `rows`."""
        inverse = np.empty_like(self.rows)
        inverse[self.rows] = np.arange(len(self.rows))
        return inverse

    def restore(self, values: Any) -> Any:
        """Put one result per output row back into input order.

        `values` is a NumPy array (first axis n), an Arrow array or a sequence; the
        same kind comes back, a list for a plain sequence. Raises ValueError when there
        are not n of them.
        """
        if len(values) != len(self.rows):
            raise ValueError(f"{len(self.rows)} rows were sent, {len(values)} results came back")
        if isinstance(values, np.ndarray):
            return values[self.positions()]
        if hasattr(values, "take"):
            return values.take(self.positions())
        return [values[place] for place in self.positions().tolist()]
