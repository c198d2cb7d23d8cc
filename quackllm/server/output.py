"""Results and plans as text: the formats by name."""

from __future__ import annotations

import re
from typing import TextIO

from quackllm.server.formats import drawn, separated, values
from quackllm.server.formats.rows import Writer

DEFAULT_FORMAT = "duckbox"

FORMATS: dict[str, Writer] = {
    "duckbox": drawn.write_duckbox,
    "box": drawn.write_box,
    "table": drawn.write_ascii_table,
    "column": drawn.write_columns,
    "markdown": separated.write_markdown,
    "line": separated.write_lines,
    "csv": separated.write_csv,
    "tabs": separated.write_tabs,
    "list": separated.write_list,
    "ascii": separated.write_ascii,
    "tcl": separated.write_tcl,
    "json": values.write_json,
    "jsonlines": values.write_json_lines,
    "html": separated.write_html,
    "latex": drawn.write_latex,
    "insert": values.write_inserts,
    "quote": values.write_quoted,
    "trash": values.write_trash,
}
"""By the names that DuckDB's shell has for them."""

_HEADING = re.compile(r"^(● .*|refused: .*)$", re.MULTILINE)
_BOLD = "\x1b[1m\\1\x1b[0m"


def write_plan(plan: str, out: TextIO) -> None:
    """Write the text of EXPLAIN, on a terminal with its stages in bold."""
    print(_HEADING.sub(_BOLD, plan) if out.isatty() else plan, file=out, flush=True)
