"""Notices for the person, through the logger `quackllm`."""

from __future__ import annotations

import logging

from quackllm.engine.events import Event, Notice
from quackllm.engine.history import StatementStats

LOGGER = logging.getLogger("quackllm")


def log_notices(event: Event) -> None:
    """Log a notice; Python shows it on standard error where logging is not set up."""
    if isinstance(event, Notice):
        LOGGER.warning("%s", event.text)


def log_missing_answers(stats: StatementStats) -> None:
    """Log how many answers of a finished statement are missing, and why."""
    failures = stats.failures
    if failures:
        causes = ", ".join(f"{count:,} {cause}" for cause, count in failures.most_common())
        LOGGER.warning(
            "%d of %d calls failed and are NULL (%s); SELECT * FROM llm_errors() lists them",
            failures.total(),
            stats.calls,
            causes,
        )
    if stats.undecided:
        LOGGER.warning(
            "%s is reached: %d questions are undecided and NULL, rows that a filter has not "
            "decided are left out; SELECT * FROM llm_errors() lists them",
            stats.budget,
            stats.undecided,
        )
