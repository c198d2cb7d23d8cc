"""pg_stat_activity: who is connected, and what runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from quackllm.server.pgwire.catalog.fixed import FIRST_DATABASE, ROLE

if TYPE_CHECKING:
    from quackllm.server.pgwire.activity import Activity

_TIME = pa.timestamp("us", "UTC")
_SCHEMA = pa.schema(
    {
        "datid": pa.uint32(), "datname": pa.string(), "pid": pa.int32(), "leader_pid": pa.int32(),
        "usesysid": pa.uint32(), "usename": pa.string(), "application_name": pa.string(),
        "client_addr": pa.string(), "client_hostname": pa.string(), "client_port": pa.int32(),
        "backend_start": _TIME, "xact_start": _TIME, "query_start": _TIME, "state_change": _TIME,
        "wait_event_type": pa.string(), "wait_event": pa.string(), "state": pa.string(),
        "backend_xid": pa.uint32(), "backend_xmin": pa.uint32(), "query_id": pa.int64(),
        "query": pa.string(), "backend_type": pa.string(),
    }
)  # fmt: skip
"""Columns in PostgreSQL's order; what is not known here is NULL."""


HIDDEN = "<insufficient privilege>"
"""What stands for the statement of another user, as in PostgreSQL."""


def activity_rows(
    sessions: Sequence[Activity], databases: Sequence[str], viewer: Activity
) -> pa.Table:
    """Return the rows of pg_stat_activity; databases are the names of those served."""
    found = [
        {**_row(one, databases), **({} if viewer.manages(one) else {"query": HIDDEN})}
        for one in sessions
    ]
    return pa.Table.from_pylist(found, schema=_SCHEMA)


def _row(one: Activity, databases: Sequence[str]) -> dict[str, Any]:
    return {
        "datid": FIRST_DATABASE + databases.index(one.database),
        "datname": one.database,
        "pid": one.pid,
        "usesysid": ROLE,
        "usename": one.user,
        "application_name": one.application,
        "client_addr": one.address,
        "client_port": one.port,
        "backend_start": _microseconds(one.started),
        "query_start": _microseconds(one.query_started),
        "state_change": _microseconds(one.changed),
        "state": "active" if one.is_active else "idle",
        "query": one.query,
        "backend_type": "client backend",
    }


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1_000_000)
