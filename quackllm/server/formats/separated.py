"""Values with something between them, row by row: CSV and its kin, lines, HTML, Markdown."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from quackllm.server.formats.rows import Look, texts

_TCL = str.maketrans(
    {
        "\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t",
        "$": "\\$", "[": "\\[", "]": "\\]",
    }
)  # fmt: skip
_TABS = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})

Field = Callable[[str | None], str]


def write_csv(relation: Any, out: TextIO, look: Look) -> None:
    """Write RFC 4180 CSV with a header; NULL is an empty field, '' is a quoted one."""
    separator, null = look.separator or ",", look.null_or("")

    def field(value: str | None) -> str:
        if value is None:
            return null
        if value in ("", null) or any(mark in value for mark in (separator, '"', "\r", "\n")):
            return '"' + value.replace('"', '""') + '"'
        return value

    _write(relation, out, look, field, separator)


def write_list(relation: Any, out: TextIO, look: Look) -> None:
    """Write values with a bar between them, one row per line; nothing is escaped."""
    _write(relation, out, look, _as_it_is(look), "|")


def write_ascii(relation: Any, out: TextIO, look: Look) -> None:
    """Write values with the separators of ASCII: 0x1F between values, 0x1E behind rows."""
    _write(relation, out, look, _as_it_is(look), "\x1f", "\x1e")


def write_tabs(relation: Any, out: TextIO, look: Look) -> None:
    """Write tab-separated values; tabs, line ends and backslashes are escaped."""
    null = look.null_or("")
    _write(relation, out, look, lambda v: null if v is None else v.translate(_TABS), "\t")


def write_tcl(relation: Any, out: TextIO, look: Look) -> None:
    """Write elements of Tcl lists; what Tcl would substitute is escaped."""
    plain = _as_it_is(look)
    _write(relation, out, look, lambda value: f'"{plain(value).translate(_TCL)}"', " ")


def write_lines(relation: Any, out: TextIO, look: Look) -> None:
    """Write one value per line, `name = value`, rows apart; for wide rows and long texts."""
    width, plain = max((len(name) for name in relation.columns), default=0), _as_it_is(look)
    for number, row in enumerate(texts(relation)):
        if number:
            print(file=out)
        for name, value in zip(relation.columns, row, strict=True):
            print(f"{name:>{width}} = {plain(value)}", file=out)


def write_html(relation: Any, out: TextIO, look: Look) -> None:
    """Write the rows of an HTML table."""
    if look.headers:
        print(_html_row("th", relation.columns, look), file=out)
    for row in texts(relation):
        print(_html_row("td", row, look), file=out)


def write_markdown(relation: Any, out: TextIO, look: Look) -> None:
    """Write a Markdown table, which has a header always."""
    print(_markdown_row(relation.columns, look), file=out)
    print(_markdown_row(["---"] * len(relation.columns), look), file=out)
    for row in texts(relation):
        print(_markdown_row(row, look), file=out)


def _write(
    relation: Any, out: TextIO, look: Look, field: Field, separator: str, end: str = "\n"
) -> None:
    """Write each row's fields with something between them and behind them."""
    separator = separator if look.separator is None else look.separator
    end = end if look.row_end is None else look.row_end
    if look.headers:
        print(separator.join(map(field, relation.columns)), end=end, file=out)
    for row in texts(relation):
        print(separator.join(map(field, row)), end=end, file=out)


def _as_it_is(look: Look) -> Field:
    null = look.null_or("NULL")
    return lambda value: null if value is None else value


def _html_row(tag: str, values: Sequence[str | None], look: Look) -> str:
    shown = map(_as_it_is(look), values)
    return f"<tr>{''.join(f'<{tag}>{html.escape(value)}</{tag}>' for value in shown)}</tr>"


def _markdown_row(values: Sequence[str | None], look: Look) -> str:
    cells = map(_markdown_cell, map(_as_it_is(look), values))
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("|", "\\|")
    return escaped.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "<br>")
