"""Tasks that end together, and the first of their errors as it was raised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Be an `asyncio.TaskGroup` that raises the first error itself, not a group of them."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        first_failure = failures.exceptions[0]
    else:
        return
    # Raised outside the handler: the group must not replace the error's own cause.
    raise first_failure
