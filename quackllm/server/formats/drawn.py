"""Tables drawn with columns of one width; except DuckDB's own, with all rows in memory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, TextIO

from rich.cells import cell_len

from quackllm.server.formats.rows import Look, numeric, texts

_ESCAPED = str.maketrans({"\n": "\\n", "\r": "\\r", "\t": "\\t"})
"""A line end or a tab in a value would break the drawing."""

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
        "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}", "\n": " ", "\r": " ",
    }
)  # fmt: skip


def write_duckbox(relation: Any, out: TextIO, look: Look) -> None:
    """Draw the relation as DuckDB does, with types, the middle of a long result left out."""
    out.flush()
    width = look.max_width or None
    if width is None and out.isatty():
        width = shutil.get_terminal_size().columns
    with redirect_stdout(out):
        relation.show(max_rows=look.max_rows, max_width=width, null_value=look.null_or("NULL"))


def write_box(relation: Any, out: TextIO, look: Look) -> None:
    """Draw a table of all rows, without types."""
    grid = _grid(relation, look)
    rules = ["─" * (width + 2) for width in grid.widths]
    print("┌" + "┬".join(rules) + "┐", file=out)
    print("│ " + " │ ".join(grid.header) + " │", file=out)
    print("├" + "┼".join(rules) + "┤", file=out)
    for row in grid.rows:
        print("│ " + " │ ".join(row) + " │", file=out)
    print("└" + "┴".join(rules) + "┘", file=out)


def write_ascii_table(relation: Any, out: TextIO, look: Look) -> None:
    """Draw a table of all rows with characters of ASCII."""
    grid = _grid(relation, look)
    rule = "+" + "+".join("-" * (width + 2) for width in grid.widths) + "+"
    print(rule, file=out)
    print("| " + " | ".join(grid.header) + " |", file=out)
    print(rule, file=out)
    for row in grid.rows:
        print("| " + " | ".join(row) + " |", file=out)
    print(rule, file=out)


def write_columns(relation: Any, out: TextIO, look: Look) -> None:
    """Write columns side by side under a ruled header."""
    grid = _grid(relation, look)
    if look.headers:
        names = (
            _padded(name, width, wanted)
            for name, width, wanted in zip(
                relation.columns, grid.widths, grid.alignments, strict=True
            )
        )
        print("  ".join(names).rstrip(), file=out)
        print("  ".join("-" * width for width in grid.widths), file=out)
    for row in grid.rows:
        print("  ".join(row).rstrip(), file=out)


def write_latex(relation: Any, out: TextIO, look: Look) -> None:
    """Write a LaTeX tabular; characters that LaTeX reads as its own are escaped."""
    letters = "".join("r" if number else "l" for number in numeric(relation))
    print(f"\\begin{{tabular}}{{|{letters}|}}\n\\hline", file=out)
    if look.headers:
        print(_latex_row(relation.columns, look) + "\n\\hline", file=out)
    for row in texts(relation):
        print(_latex_row(row, look), file=out)
    print("\\hline\n\\end{tabular}", file=out)


@dataclass(frozen=True)
class _Grid:
    """A table's texts padded to the widths of their columns, in cells of a terminal.

    alignments: of each column, below 0 to the right.
    """

    header: list[str]
    rows: list[list[str]]
    widths: list[int]
    alignments: list[int]


def _grid(relation: Any, look: Look) -> _Grid:
    null = look.null_or("NULL")
    names = [name.translate(_ESCAPED) for name in relation.columns]
    rows = [
        [null if value is None else value.translate(_ESCAPED) for value in row]
        for row in texts(relation)
    ]
    alignments = [*look.widths, *[0] * len(names)][: len(names)]
    columns = zip(names, *rows, strict=True)
    widths = [
        max(abs(wanted), *map(cell_len, column), 0)
        for wanted, column in zip(alignments, columns, strict=True)
    ]
    shaped = list(zip(widths, alignments, strict=True))
    header = [_centred(name, width) for name, width in zip(names, widths, strict=True)]
    padded = [
        [_padded(value, *shape) for value, shape in zip(row, shaped, strict=True)] for row in rows
    ]
    return _Grid(header, padded, widths, alignments)


def _padded(value: str, width: int, alignment: int) -> str:
    """Fill up with blanks; some characters take two cells of a terminal and some none."""
    blanks = " " * (width - cell_len(value))
    return blanks + value if alignment < 0 else value + blanks


def _centred(value: str, width: int) -> str:
    blanks = width - cell_len(value)
    return " " * (blanks // 2) + value + " " * (blanks - blanks // 2)


def _latex_row(values: Sequence[str | None], look: Look) -> str:
    cells = (look.null_or("NULL") if value is None else value for value in values)
    return " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"
