"""For all tests: nothing is read from, and nothing written to, the user's own answers."""

from __future__ import annotations

import os

import pytest

from quackllm.engine.cache.places import IN_MEMORY, VARIABLE


def pytest_configure(config: pytest.Config) -> None:
    """Keep answers in memory, in this process and in those that tests start."""
    os.environ[VARIABLE] = IN_MEMORY
