"""Who may log in, and what each may do: the users file of `quackllm serve`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quackllm.engine.expansion import BY_TEXT
from quackllm.engine.settings import PREFIX, Settings
from quackllm.errors import SettingError
from quackllm.optimizer.naive import FUNCTION
from quackllm.server.pgwire.errors import SqlState, WireError
from quackllm.server.pgwire.scram import Verifier, read_verifier, verifier_of

if TYPE_CHECKING:
    from quackllm.server.pgwire.statements import Parsed

_KEYS = ("password", "read_only", "databases", "models", "settings")
_ALLOWED = "allowed_models"
_OF_MODELS = frozenset({"model", "base_url", "provider", "api_key", _ALLOWED})
"""Settings that choose who answers."""

_INDIRECT = frozenset({FUNCTION.upper(), *map(str.upper, BY_TEXT)})
"""Functions by which a statement could ask a model behind the engine's back."""


class UsersFileError(Exception):
    """The users file cannot be read as one; the message says where and why."""


@dataclass(frozen=True)
class Role:
    """A user.

    verifier: of the password; None lets anybody in, which the server allows locally only.
    databases: those that it may connect to, None for all.
    models: those that may answer, None for all; the first does where the session has no other.
    settings: `llm_` settings that it begins with and cannot change, without the prefix.

    The engine holds each call to the settings of its session; `check` keeps a session from
    changing them, and from calls that would not be the session's.
    """

    name: str
    verifier: Verifier | None = None
    read_only: bool = False
    databases: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_limited(self) -> bool:
        """Whether what it may ask of models is less than everything."""
        return self.models is not None or bool(self.settings)

    @property
    def is_manager(self) -> bool:
        """Whether it sees and ends the statements of other users: where nothing is kept from it."""
        return not (self.read_only or self.is_limited or self.databases is not None)

    def begins_with(self) -> dict[str, Any]:
        """Return the `llm_` settings of its sessions, without the prefix."""
        if self.models is None:
            return dict(self.settings)
        return {**self.settings, _ALLOWED: ", ".join(self.models)}

    def check(self, parsed: Parsed) -> None:
        """Raise `WireError` for a statement that the role may not run."""
        words = parsed.words
        if words[:1] in (("SET",), ("RESET",), ("PRAGMA",)):
            for word in words[1:4]:
                self.check_setting(word, parsed.statement.tokens[-1].text)
        if self.verifier is not None:
            self._check_user_stays(parsed)
        if self.models is not None and "MODEL" in words[1:4] and words[0] in ("CREATE", "DROP"):
            raise _denied(f"role {self.name} may not {words[0].lower()} models")
        if self.is_limited:
            self._check_calls_are_its_own(words)

    def check_setting(self, written: str, value: str) -> None:
        """Raise `WireError` where the role may not give a setting a value.

        written: the name; any that is none of ours may be set.
        """
        name = written.lower().removeprefix(PREFIX)
        is_choice = name == "model" and self.models is not None and name not in self.settings
        if is_choice and value in (self.models or ()):
            return
        if name in self.settings or (self.models is not None and name in _OF_MODELS):
            raise _denied(
                f"role {self.name} may not change {PREFIX}{name}",
                f"It may use {', '.join(self.models)}." if is_choice and self.models else "",
            )

    def _check_user_stays(self, parsed: Parsed) -> None:
        """Refuse SET ROLE and SET SESSION AUTHORIZATION to another than the user that logged in."""
        words = [word for word in parsed.words[:4] if word not in ("SESSION", "LOCAL")]
        if words[:1] != ["SET"] or words[1:2] not in (["ROLE"], ["AUTHORIZATION"]):
            return
        wanted = parsed.statement.tokens[-1].text
        if wanted != self.name and wanted.upper() not in ("NONE", "DEFAULT"):
            raise _denied(f"role {self.name} may not become {wanted}")

    def _check_calls_are_its_own(self, words: Sequence[str]) -> None:
        """Refuse what DuckDB runs without the engine's knowing whose statement it is."""
        if words[0] == "PREPARE":
            raise _denied(
                f"role {self.name} may not PREPARE: its limits hold for what it sends",
                "Use the driver's prepared statements.",
            )
        for word, following in pairwise(words):
            if following == "(" and word in _INDIRECT:
                raise _denied(f"role {self.name} may not use {word.lower()}()")


def _denied(message: str, hint: str = "") -> WireError:
    return WireError(SqlState.PRIVILEGE, message, hint=hint)


def read_users(path: Path) -> dict[str, Role]:
    """Read a users file. Raises `UsersFileError`."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsersFileError(f"cannot read {path}: {error}") from None
    users = data.get("users")
    if not isinstance(users, dict) or not users:
        raise UsersFileError(f"{path} has no [users.NAME] table")
    return {name: _role(name, given, path) for name, given in users.items()}


def _role(name: str, given: Any, path: Path) -> Role:
    where = f"{path}: user {name}"
    if not isinstance(given, dict):
        raise UsersFileError(f"{where} is not a table")
    for key in given:
        if key not in _KEYS:
            close = get_close_matches(key, _KEYS, n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise UsersFileError(f"{where}: unknown key {key}{hint}; keys are {', '.join(_KEYS)}")
    password = given.get("password")
    if not isinstance(password, str) or not password:
        raise UsersFileError(
            f"{where}: password is missing; quackllm serve --hash-password makes one"
        )
    settings = given.get("settings", {})
    try:
        checked = Settings()
        for key, value in settings.items():
            checked = checked.set(key, value)
    except (SettingError, AttributeError) as error:
        raise UsersFileError(f"{where}: {error}") from None
    return Role(
        name,
        read_verifier(password) or verifier_of(password),
        bool(given.get("read_only", False)),
        _names(given.get("databases"), where, "databases"),
        _names(given.get("models"), where, "models"),
        {key.removeprefix(PREFIX): value for key, value in settings.items()},
    )


def _names(given: Any, where: str, key: str) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise UsersFileError(f"{where}: {key} is a list of names")
    return tuple(given)
