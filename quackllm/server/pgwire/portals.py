"""Prepared statements and portals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quackllm.server.pgwire.parameters import Place, Substituted

if TYPE_CHECKING:
    from quackllm.server.pgwire.statements import Parsed
    from quackllm.server.pgwire.types import Column
    from quackllm.server.pgwire.work import Work


@dataclass
class Prepared:
    """A statement that was parsed; parsed is None for an empty one.

    oids: types of its parameters, said by the client or inferred. columns is what
    Describe said, so that it is found out once.
    """

    parsed: Parsed | None
    places: tuple[Place, ...]
    oids: tuple[int, ...]
    columns: tuple[Column, ...] | None = None
    described: bool = False

    @property
    def sql(self) -> str:
        """The text as the client sent it."""
        return self.parsed.sql if self.parsed is not None else ""


@dataclass
class Portal:
    """A statement with its values, on its way through its rows.

    parsed: with literals in the place of parameters; sent: the text the client sent.
    offset: where the statement stands in the text of a simple query.
    """

    parsed: Parsed | None
    formats: tuple[int, ...]
    sent: str
    offset: int = 0
    substituted: Substituted | None = None
    sent_rows: int = 0
    work: Work | None = None
    """What running it gave; None before it has run."""

    def position_sent(self, position: int) -> int:
        """Return where a position in the text that DuckDB saw was in what the client sent."""
        if position and self.substituted is not None:
            position = self.substituted.position_sent(position)
        return position + self.offset if position else 0
