"""Replay sqllogictest files: `python -m tests.sqllogic.run FILE...`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.sqllogic.replay import replay


def main(paths: list[str]) -> int:
    """Replay files and folders of .test files; 1 when something failed."""
    if not paths:
        print(__doc__)
        return 2
    files: list[Path] = []
    for path in map(Path, paths):
        files.extend(sorted(path.rglob("*.test")) if path.is_dir() else [path])
    failed = 0
    for file in files:
        report = replay(file)
        failed += len(report.failed)
        print(report.line())
        for each in report.failed:
            print("  " + each.replace("\n", "\n    "))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
