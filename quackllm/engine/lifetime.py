"""The end of an engine: with the connection that it was made for, and all its cursors."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable
from contextlib import suppress

import duckdb

from quackllm.engine.engine import Engine
from quackllm.engine.settings import Settings
from quackllm.optimizer.naive import FUNCTION


class Household:
    """The engine of a connection and its cursors.

    It ends when the connection is closed, which closes the cursors in DuckDB too, or
    when nobody holds any of them, or at exit.

    settings: what calls go by that belong to no statement of ours, such as those of a
        view: the settings of the first connection.
    """

    def __init__(self, raw: duckdb.DuckDBPyConnection, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.settings = settings
        # DuckDB complains at exit about functions of connections that are still open.
        self._release = weakref.finalize(self, _release, raw, engine)
        # At exit before any other finalizer, the one that ends the engine's thread included.
        atexit.register(self._release)

    def current_settings(self) -> Callable[[], Settings]:
        """Return a way to the settings that does not keep the household alive."""
        this = weakref.ref(self)

        def settings() -> Settings:
            household = this()
            return Settings() if household is None else household.settings

        return settings

    def end(self) -> None:
        """End outstanding calls and the engine."""
        self._release()
        atexit.unregister(self._release)


def _release(raw: duckdb.DuckDBPyConnection, engine: Engine) -> None:
    engine.close()
    with suppress(duckdb.Error):
        raw.remove_function(FUNCTION)
