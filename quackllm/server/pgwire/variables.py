"""PostgreSQL's run-time settings, as far as clients set and ask for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from quackllm.server.pgwire.errors import SqlState, WireError

SERVER_VERSION = "15.0"
"""The version whose catalog and behaviour we follow; drivers choose their queries by it."""

REPORTED = (
    "application_name", "client_encoding", "DateStyle", "default_transaction_read_only",
    "in_hot_standby", "integer_datetimes", "IntervalStyle", "is_superuser", "server_encoding",
    "server_version", "session_authorization", "standard_conforming_strings", "TimeZone",
)  # fmt: skip
"""Settings that the client is told at the start and when they change."""

DEFAULTS: Mapping[str, str] = {
    "application_name": "",
    "bytea_output": "hex",
    "check_function_bodies": "on",
    "client_encoding": "UTF8",
    "client_min_messages": "notice",
    "DateStyle": "ISO, MDY",
    "default_table_access_method": "heap",
    "default_tablespace": "",
    "default_transaction_isolation": "repeatable read",
    "default_transaction_read_only": "off",
    "escape_string_warning": "on",
    "extra_float_digits": "1",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "in_hot_standby": "off",
    "integer_datetimes": "on",
    "IntervalStyle": "postgres",
    "is_superuser": "on",
    "jit": "off",
    "lc_collate": "C",
    "lc_ctype": "C",
    "lc_messages": "C",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "lock_timeout": "0",
    "max_identifier_length": "63",
    "max_index_keys": "32",
    "row_security": "on",
    "search_path": "main",
    "server_encoding": "UTF8",
    "server_version": SERVER_VERSION,
    "server_version_num": "150000",
    "session_authorization": "",
    "ssl": "off",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "synchronous_commit": "on",
    "TimeZone": "UTC",
    "transaction_isolation": "repeatable read",
    "transaction_read_only": "off",
    "xmloption": "content",
}

_FIXED = {
    "client_encoding": ("utf8", "utf-8", "unicode"),
    "standard_conforming_strings": ("on", "true", "1", "yes"),
    "integer_datetimes": ("on",),
}
"""Settings that have one value only."""

_READ_ONLY = frozenset(
    {"server_version", "server_version_num", "server_encoding", "max_identifier_length"}
    | {"max_index_keys", "in_hot_standby", "is_superuser", "lc_collate", "lc_ctype", "ssl"}
)

_SET = re.compile(
    r"SET\s+(?:(?:SESSION|LOCAL)\s+)?(?P<name>[\w.]+|\"[\w.]+\")\s*(?:=|\s+TO\b)\s*(?P<value>.+)$",
    re.IGNORECASE | re.DOTALL,
)
_TIME_ZONE = re.compile(
    r"SET\s+(?:(?:SESSION|LOCAL)\s+)?TIME\s+ZONE\s+(?P<value>.+)$", re.IGNORECASE
)
_NAMES = re.compile(r"SET\s+NAMES\s+(?P<value>.+)$", re.IGNORECASE)
_NO_EFFECT = re.compile(
    r"SET\s+(?:LOCAL\s+|SESSION\s+)?(?:TRANSACTION\b|CHARACTERISTICS\b|ROLE\b|AUTHORIZATION\b"
    r"|CONSTRAINTS\b)",
    re.IGNORECASE,
)
_SHOW = re.compile(r"SHOW\s+(?P<name>[\w.]+|\"[\w.]+\"|TRANSACTION\s+ISOLATION\s+LEVEL|TIME\s+ZONE|"
                   r"SESSION\s+AUTHORIZATION)\s*$", re.IGNORECASE)  # fmt: skip


@dataclass(frozen=True)
class Assignment:
    """What a SET or RESET asks for; value None is the default, name None is every setting."""

    name: str | None
    value: str | None


class Variables:
    """The settings of one session."""

    def __init__(self, **given: str) -> None:
        self._defaults = {**DEFAULTS, **given}
        self._values = dict(self._defaults)

    def name_of(self, written: str) -> str | None:
        """Return the name of a setting as it is kept, None for one that is not ours."""
        wanted = written.strip('"').lower()
        return next((name for name in self._defaults if name.lower() == wanted), None)

    def get(self, name: str) -> str:
        """Return the value of a setting that is ours."""
        return self._values[name]

    def rows(self) -> list[tuple[str, str]]:
        """Return (name, value) of all, by name."""
        return sorted(self._values.items(), key=lambda pair: pair[0].lower())

    def reported(self) -> dict[str, str]:
        """Return those that the client is told."""
        return {name: self._values[name] for name in REPORTED}

    def assign(self, name: str, value: str | None) -> None:
        """Change a setting. Raises `WireError` for a value that cannot be."""
        if name in _READ_ONLY:
            raise WireError(SqlState.INVALID_PARAMETER, f'parameter "{name}" cannot be changed')
        if value is None:
            self._values[name] = self._defaults[name]
            return
        allowed = _FIXED.get(name)
        if allowed is not None and value.lower() not in allowed:
            raise WireError(
                SqlState.INVALID_PARAMETER,
                f'invalid value for parameter "{name}": "{value}"',
                hint=f"It can be {allowed[0]} only.",
            )
        self._values[name] = self._defaults[name] if allowed is not None else value

    def keep(self) -> None:
        """Make the values of now those that a reset gives."""
        self._defaults = dict(self._values)

    def reset(self) -> None:
        """Give every setting its value at the start of the session."""
        self._values = dict(self._defaults)


def assignment(sql: str) -> Assignment | None:
    """Read a SET or RESET; None for one that is not PostgreSQL's."""
    words = sql.split()
    if words[0].upper() == "RESET" and len(words) == 2:
        return Assignment(None if words[1].upper() == "ALL" else words[1], None)
    if (found := _TIME_ZONE.match(sql)) is not None:
        return Assignment("TimeZone", _value(found["value"]))
    if (found := _NAMES.match(sql)) is not None:
        return Assignment("client_encoding", _value(found["value"]))
    if (found := _SET.match(sql)) is not None:
        return Assignment(found["name"].strip('"'), _value(found["value"]))
    return None


def has_no_effect(sql: str) -> bool:
    """Whether a SET is one that means nothing here: isolation levels, roles."""
    return _NO_EFFECT.match(sql) is not None


def shown(sql: str) -> str | None:
    """Return the name of the setting that a SHOW asks for; None for other forms."""
    found = _SHOW.match(sql)
    if found is None:
        return None
    name = " ".join(found["name"].strip('"').lower().split())
    renamed = {
        "transaction isolation level": "transaction_isolation",
        "time zone": "TimeZone",
        "session authorization": "session_authorization",
    }
    return renamed.get(name, name)


def _value(written: str) -> str | None:
    text = written.strip()
    if text.upper() in ("DEFAULT", "LOCAL"):
        return None
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return text.strip('"')
