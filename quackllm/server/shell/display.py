"""How a shell shows results, and where they go."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, cast

from quackllm.server.formats.rows import Look
from quackllm.server.output import DEFAULT_FORMAT


@dataclass
class Display:
    """How results are shown.

    mode: a name of `output.FORMATS`. timer: whether times are printed. out: the file or the
    command that rows go to, None for the terminal. once: whether they go there for one
    statement only.
    """

    mode: str = DEFAULT_FORMAT
    look: Look = field(default_factory=Look)
    timer: bool = False
    out: TextIO | None = None
    once: bool = False
    target: str = ""

    def to_file(self, target: str, *, once: bool = False) -> None:
        """Let rows go to a file, or to the input of a command: "|sort". Raises `OSError`."""
        self.to_terminal()
        if target.startswith("|"):
            self.out = cast(TextIO, os.popen(target[1:], "w"))  # its close() waits
        else:
            self.out = Path(target).expanduser().open("w", encoding="utf-8")
        self.once, self.target = once, target

    def to_terminal(self) -> None:
        """Let rows go to the terminal again; a command ends when it has read them."""
        out, self.out, self.once, self.target = self.out, None, False, ""
        if out is not None:
            out.close()
