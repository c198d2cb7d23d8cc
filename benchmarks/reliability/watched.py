"""One statement in a process of its own, over a cache file; for runs that are cut short.

    python -m benchmarks.reliability.watched URL CACHE ROWS

Prints, each on a line, as it happens: `begun`; `came KEY` when an answer has arrived; `kept
KEY` when the end of the process can do it no harm; at the end `rows` and the rows as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import quackllm
from quackllm.engine.cache import PersistentCache, Question

STATEMENT = "SELECT i, LLM('Answer', v) AS a FROM t ORDER BY i"


class _Watched(PersistentCache):
    """Tells what becomes of every answer."""

    def put(self, question: Question, key: str, answer: str | None) -> None:
        _say(f"came {key}")
        super().put(question, key, answer)
        _say(f"kept {key}")


def _say(line: str) -> None:
    os.write(1, (line + "\n").encode())  # nothing is left in a buffer by kill -9


@dataclass
class Watched:
    """A process that runs the statement, and what it has said so far.

    came, kept: keys; rows: of the finished statement.
    """

    process: subprocess.Popen[str]
    came: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    rows: list[list[object]] | None = None
    begun: bool = False

    def listen(self) -> None:
        """Read until the process is silent for ever."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "came":
                self.came.add(rest)
            elif word == "kept":
                self.kept.add(rest)
            elif word == "rows":
                self.rows = json.loads(rest)
            elif word == "begun":
                self.begun = True

    def wait(self) -> None:
        """Wait for the end of the process and of its words."""
        self.process.wait()
        self._listener.join()

    def start(self) -> Watched:
        """Begin to listen."""
        self._listener = Thread(target=self.listen, daemon=True)
        self._listener.start()
        return self


def start(url: str, cache: Path, rows: int) -> Watched:
    """Start the statement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.reliability.watched", url, str(cache), str(rows)]
    return Watched(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)).start()


def main() -> None:
    """Run the statement."""
    url, cache, rows = sys.argv[1:]
    with quackllm.connect(base_url=url, model="fake-model", progress=False) as connection:
        connection.execute(f"CREATE TABLE t AS SELECT i, 'row ' || i AS v FROM range({rows}) r(i)")
        engine = connection.llm_engine
        engine.cache = watched = _Watched(Path(cache), limit=10**9, notify=_say)
        _say("begun")
        found = connection.execute(STATEMENT).fetchall()
        _say("rows " + json.dumps(found))
        watched.close()


if __name__ == "__main__":
    main()
