"""Runs a file on both sides: what it expects must hold, and the sides must agree."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from tests.sqllogic.records import SORT_MODES, Record, UnsupportedError, read, unrolled
from tests.sqllogic.sides import Answer, Plain, Planned, Side
from tests.sqllogic.values import Writer, compare, digest

ALWAYS_THERE = frozenset(
    {
        "64bit",
        "allow_unsigned_extensions",
        "longdouble",
        "no_alternative_verify",
        "no_extension_autoloading_force",
        "no_latest_storage",
        "notmingw",
        "notmusl",
        "notwindows",
        "ram",
        "skip_reload",
    }
)
"""What `require` may ask for and every build here has."""


@dataclass
class Report:
    """How a file went. skipped: why the file, or the rest of it, was not run."""

    path: str
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped_records: int = 0
    skipped: str | None = None

    def line(self) -> str:
        """One line for people."""
        text = f"{self.path}: {self.passed} passed"
        if self.failed:
            text += f", {len(self.failed)} failed"
        if self.skipped_records:
            text += f", {self.skipped_records} skipped"
        return text + (f"; skipped: {self.skipped}" if self.skipped else "")


class _StopFileError(Exception):
    """The rest of the file is not run; it says why."""


def replay(path: Path, sides: Sequence[Side] | None = None) -> Report:
    """Replay a file; on quackllm and on plain DuckDB, unless other sides are given."""
    used: list[Side] = [Planned(), Plain()] if sides is None else list(sides)
    report, writer = Report(str(path)), Writer()
    with TemporaryDirectory() as folder:
        run = _Run(report, used, writer, folder)
        try:
            for record in unrolled(read(path.read_text(encoding="utf-8"))):
                run.step(record)
        except (UnsupportedError, _StopFileError) as reason:
            report.skipped = str(reason)
        finally:
            for side in used:
                side.close()
            writer.close()
    return report


class _Run:
    def __init__(self, report: Report, sides: list[Side], writer: Writer, folder: str) -> None:
        self._report = report
        self._sides = sides
        self._writer = writer
        self._folder = folder
        self._labels: dict[tuple[str, str], str] = {}
        self._skipping = False
        self._skip_next = False
        self._databases: dict[str, str] = {}

    def step(self, record: Record) -> None:
        """Run one record. Raises `UnsupportedError` and `_StopFileError`."""
        if record.kind == "mode":
            self._skipping = record.words[:1] == ("skip",) or (
                self._skipping and record.words[:1] != ("unskip",)
            )
            return
        if record.kind in ("skipif", "onlyif"):
            is_duckdb = record.words[:1] == ("duckdb",)
            self._skip_next = is_duckdb == (record.kind == "skipif")
            return
        if self._skipping or self._skip_next:
            self._skip_next = False
            self._report.skipped_records += 1
            return
        if record.kind in ("statement", "query"):
            wrong = self._statement(record) if record.kind == "statement" else self._query(record)
            if wrong:
                self._report.failed.append(f"line {record.line}: {wrong}\n{record.sql}")
            else:
                self._report.passed += 1
            return
        self._directive(record)

    def _directive(self, record: Record) -> None:
        words = record.words
        if record.kind == "require":
            self._require(words)
        elif record.kind == "require-env":
            if words[0] not in os.environ or words[1:] not in ((), (os.environ[words[0]],)):
                raise _StopFileError(f"needs the environment variable {' '.join(words)}")
        elif record.kind == "halt":
            raise _StopFileError("halt")
        elif record.kind in ("load", "restart"):
            self._open(record)
        elif record.kind == "reconnect":
            for side in self._sides:
                side.reconnect()
        elif record.kind == "set" and words[:1] == ("seed",):
            for side in self._sides:
                side.run(f"SELECT setseed({words[1]})")
        elif record.kind == "sleep":
            time.sleep(float(words[0]) * (0.001 if words[1].startswith("milli") else 1))
        elif record.kind == "reset" and words[:1] == ("label",):
            self._labels = {key: v for key, v in self._labels.items() if key[1] != words[1]}
        else:
            raise UnsupportedError(f"line {record.line}: {record.kind} {' '.join(words)}")

    def _open(self, record: Record) -> None:
        for side in self._sides:
            if record.kind == "load":
                given = record.words[0] if record.words else ":memory:"
                self._databases[side.name] = self._placed(given, side)
            side.open(self._databases.get(side.name, ":memory:"))

    def _require(self, words: Sequence[str]) -> None:
        name = words[0].lower()
        if name in ALWAYS_THERE:
            return
        if name == "vector_size":
            if int(words[1]) > 2048:
                raise _StopFileError(f"needs a vector size of {words[1]}")
            return
        rows = (
            self._sides[-1]
            .run(
                f"SELECT loaded OR install_mode = 'STATICALLY_LINKED' FROM duckdb_extensions() "
                f"WHERE extension_name = '{name}'"
            )
            .rows
        )
        if not rows or not rows[0][0]:
            raise _StopFileError(f"needs {' '.join(words)}")

    def _placed(self, text: str, side: Side) -> str:
        folder = Path(self._folder, side.name)
        folder.mkdir(exist_ok=True)
        return text.replace("__TEST_DIR__", str(folder)).replace("{TEST_DIR}", str(folder))

    def _answers(self, record: Record, connection: str) -> list[Answer]:
        return [side.run(self._placed(record.sql, side), connection) for side in self._sides]

    def _statement(self, record: Record) -> str:
        expected, *rest = record.words
        answers = self._answers(record, rest[0] if rest else "")
        for side, answer in zip(self._sides, answers, strict=True):
            if expected == "ok" and answer.error is not None:
                return f"{side.name}: {answer.error}"
            if expected == "error":
                wrong = _wrong_error(answer.error, record.expected)
                if wrong:
                    return f"{side.name}: {wrong}"
        return self._disagreement(answers)

    def _query(self, record: Record) -> str:
        _, *rest = record.words or ("",)
        mode = rest.pop(0) if rest and rest[0] in SORT_MODES else "nosort"
        connection = rest.pop(0) if rest and rest[0].startswith("con") else ""
        label = rest[0] if rest else None
        answers = self._answers(record, connection)
        for side, answer in zip(self._sides, answers, strict=True):
            if answer.error is not None:
                return f"{side.name}: {answer.error}"
            texts = self._writer.texts(answer.rows, answer.types)
            wrong = compare(texts, answer.types, record.expected or (), mode)
            if label is not None and record.expected in (None, ()):
                wrong = self._labelled(side, label, digest(texts, mode))
            if wrong:
                return f"{side.name}: {wrong}"
        return self._disagreement(answers, ordered=mode == "nosort")

    def _labelled(self, side: Side, label: str, found: str) -> str:
        first = self._labels.setdefault((side.name, label), found)
        return "" if first == found else f"another result than the first query of label {label}"

    def _disagreement(self, answers: list[Answer], ordered: bool = True) -> str:
        """The sides must give the same names, types, rows and errors, byte for byte."""
        first, *others = [_shown(answer, ordered) for answer in answers]
        for side, other in zip(self._sides[1:], others, strict=True):
            if other != first:
                return f"{self._sides[0].name} gives {first[:300]}, {side.name} {other[:300]}"
        return ""


def _shown(answer: Answer, ordered: bool) -> str:
    if answer.error is not None:
        # Without the excerpt: around a call, the text that plain DuckDB runs is another.
        message = str(answer.error).partition("\n\nLINE ")[0]
        return f"{type(answer.error).__name__}: {message}"
    rows = [repr(row) for row in answer.rows]
    return repr((answer.names, answer.types, rows if ordered else sorted(rows)))


def _wrong_error(error: duckdb.Error | None, expected: tuple[str, ...] | None) -> str:
    if error is None:
        return "no error"
    wanted, message = "\n".join(expected or ()), str(error)
    if isinstance(error, duckdb.InternalException | duckdb.FatalException):
        return f"a defect of DuckDB: {message}"
    if wanted.startswith("<REGEX>:"):
        held = re.search(wanted[8:], message, re.DOTALL) is not None
    elif wanted.startswith("<!REGEX>:"):
        held = re.search(wanted[9:], message, re.DOTALL) is None
    else:
        held = wanted in message
    return "" if held else f"another error: {message}"
