"""LLM functions in DuckDB's SQL, planned so that the model is called as little as possible.

import quackllm

con = quackllm.connect("reviews.duckdb")
con.sql("SELECT title FROM movies WHERE LLM_FILTER('Is it a comedy?', synopsis)").show()
"""

from __future__ import annotations

import weakref
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

import duckdb

from quackllm.engine.connection import Connection
from quackllm.engine.engine import Engine
from quackllm.engine.notices import log_notices
from quackllm.engine.progress import ProgressBar
from quackllm.engine.settings import settings_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from quackllm.engine.events import Event, Listener
    from quackllm.engine.providers.base import Provider
    from quackllm.engine.redaction import Redact

__version__ = _version("quackllm")


def connect(
    database: Any = ":memory:",
    read_only: bool = False,
    config: dict[str, Any] | None = None,
    *,
    provider: Provider | str | None = None,
    redact: Redact | None = None,
    **settings: Any,
) -> Connection:
    """Open a DuckDB database with LLM functions.

    database, read_only, config: as in `duckdb.connect`.
    provider: an object that answers every call, or the name of an installed provider.
    redact: a function that is given every text and number of a row, as text, before a model
        is asked about it, and returns what the model may see; see SECURITY.md.
    settings: the `llm_` settings without their prefix: model='qwen3-8b', base_url=...

    Raises `duckdb.Error` for a database that cannot be opened and `SettingError`.
    """
    raw = duckdb.connect(database, read_only=read_only, config=config or {})
    connection = wrap(raw, provider=provider, redact=redact, **settings)
    connection.llm_engine.stored.outdated = database not in ("", ":memory:")  # a new one is empty
    return connection


def wrap(
    connection: duckdb.DuckDBPyConnection,
    *,
    provider: Provider | str | None = None,
    redact: Redact | None = None,
    **settings: Any,
) -> Connection:
    """Give an open DuckDB connection LLM functions. The connection stays usable itself.

    provider, redact, settings: as for `connect`. Raises `SettingError`, and `TypeError` for what
    is no connection.
    """
    if not callable(getattr(connection, "extract_statements", None)):
        raise TypeError(
            f"wrap takes an open DuckDB connection, not a {type(connection).__name__}; "
            "quackllm.connect(database) opens one"
        )
    named = provider if isinstance(provider, str) else None
    given = None if isinstance(provider, str) else provider
    chosen = settings_from({**settings, "provider": named})
    engine = Engine(provider=given, redact=redact)
    engine.events.listeners.append(log_notices)
    engine.stored.outdated = True
    wrapped = Connection(connection, engine, chosen)
    bar = ProgressBar()
    this = weakref.ref(wrapped)  # the engine must not keep its connection alive
    engine.events.listeners.append(_when(lambda: _wants_progress(this()), bar))
    return wrapped


def load_ipython_extension(shell: Any) -> None:
    """Add the magics `%llmsql` and `%%llmsql`: what `%load_ext quackllm` calls."""
    from quackllm.server.notebook import LLMSQLMagics

    shell.register_magics(LLMSQLMagics)


def _wants_progress(connection: Connection | None) -> bool:
    return connection is not None and connection.llm_settings.progress


def _when(wanted: Callable[[], bool], listener: Listener) -> Listener:
    def listen(event: Event) -> None:
        if wanted():
            listener(event)

    return listen


__all__ = ["Connection", "__version__", "connect", "load_ipython_extension", "wrap"]
