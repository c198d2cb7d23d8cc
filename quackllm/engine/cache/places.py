"""Where the answers are kept when nobody says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import platformdirs

IN_MEMORY = ":memory:"

VARIABLE = "QUACKLLM_CACHE"
"""Environment variable: the path of the database, or ':memory:'."""

FILE_NAME = "answers.sqlite"


def default_path() -> Path:
    """Return the database in the user's cache directory."""
    return platformdirs.user_cache_path("quackllm", appauthor=False) / FILE_NAME


def place(setting: str | None, environ: Mapping[str, str]) -> Path | None:
    """Return the database to use, None for memory: by the setting, else the environment."""
    named = setting or environ.get(VARIABLE)
    if not named:
        return default_path()
    return None if named == IN_MEMORY else Path(named).expanduser()
