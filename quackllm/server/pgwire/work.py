"""What running a statement can lead to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from quackllm.server.pgwire.copy_in import CopyIn
from quackllm.server.pgwire.copying import CopyOut
from quackllm.server.pgwire.results import Rows


@dataclass(frozen=True)
class Outcome:
    """A statement ended: with rows to be sent, or with a tag alone.

    counted: whether the number of rows belongs behind the tag.
    """

    rows: Rows | None
    tag: str = ""
    counted: bool = False


Work: TypeAlias = Outcome | CopyIn | CopyOut
