"""Draw what a terminal shows of EXPLAIN: python -m tools.explain_pictures

Runs the quackllm command in a pseudo-terminal, in the folder of the examples, and draws what it
wrote there as SVG for docs/explain.md. The plan of `before.svg` calls no model; `after.svg` asks
the embedded one, and so holds the seconds of the machine that drew it.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from html import unescape
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "sql_examples"
PICTURES = ROOT / "docs" / "explain"
COLUMNS, ROWS = 104, 60

SETTINGS = (
    "--set=llm_cache=false",  # the same picture, whatever was asked before on this machine
    "--set=llm_input_price=0.2",
    "--set=llm_cached_input_price=0.05",
    "--set=llm_output_price=0.5",
)
QUERY = (
    "SELECT p.name, LLM('In one sentence: what happened?', r.review, max_tokens := 40) AS what\n"
    "FROM 'data/product_reviews.csv' AS r JOIN 'data/products.csv' AS p USING (product_id)\n"
    "WHERE r.rating <= 2 AND r.reviewed_on >= DATE '2026-03-01'\n"
    "  AND LLM_FILTER('Did somebody get hurt or scared?', r.review);\n"
)
REMOTE_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""What rich's SVG loads from elsewhere: a picture of ours stands alone."""


def captured(sql: str, options: Sequence[str] = ()) -> str:
    """Return what the quackllm command writes to a terminal, statement included.

    Raises `subprocess.CalledProcessError` where the command fails.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    command = [sys.executable, "-m", "quackllm", "--no-progress", "--echo", *options, "-c", sql]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "TERM": "xterm-256color"}
    with subprocess.Popen(
        command,
        cwd=EXAMPLES,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        written = _read_all(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, written)
    return written.replace("\r\n", "\n").strip("\n")


def _read_all(terminal: int) -> str:
    """Read a terminal until the last process that writes to it is gone."""
    parts = []
    with os.fdopen(terminal, "rb", buffering=0) as stream:
        while True:
            try:
                part = stream.read(65536)
            except OSError:  # Linux says so that the other end is closed
                break
            if not part:
                break
            parts.append(part)
    return b"".join(parts).decode()


def drawn(written: str, title: str) -> str:
    """Draw a terminal's text, with its colours, as SVG."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), legacy_windows=False)
    console.print(Text.from_ansi(written), overflow="fold")
    lines = REMOTE_FONTS.sub("", console.export_svg(title=title)).splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def words_of(svg: str) -> str:
    """The text of a picture, line ends and blanks as one blank."""
    texts = re.findall(r"<text[^>]*>(.*?)</text>", svg, re.DOTALL)
    return " ".join(unescape(" ".join(texts)).split())


def main() -> None:
    """Draw both pictures."""
    PICTURES.mkdir(exist_ok=True)
    for name, explain in (("before", "EXPLAIN VERBOSE\n"), ("after", "EXPLAIN ANALYZE\n")):
        picture = drawn(captured(explain + QUERY, SETTINGS), "quackllm")
        (PICTURES / f"{name}.svg").write_text(picture)


if __name__ == "__main__":
    main()
