"""Reproducible measurements, each run by `python -m benchmarks.<folder>.<name>`."""

from __future__ import annotations

import os

from quackllm.engine.cache.places import IN_MEMORY, VARIABLE

# On import, since it has to hold for each of them and for the processes they start: an answer
# of an earlier run would be no measurement, and the user's own answers are not to be touched.
os.environ.setdefault(VARIABLE, IN_MEMORY)
