"""Notices for the person, through the logger `quackllm`."""

from __future__ import annotations

import logging

from quackllm.engine.events import Event, Notice

LOGGER = logging.getLogger("quackllm")


def log_notices(event: Event) -> None:
    """Log a notice; Python shows it on standard error where logging is not set up."""
    if isinstance(event, Notice):
        LOGGER.warning("%s", event.text)
