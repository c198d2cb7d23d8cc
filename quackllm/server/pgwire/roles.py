"""Who may log in, and what each may do: the users file of `quackllm serve`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quackllm.engine.settings import PREFIX, Settings
from quackllm.errors import SettingError
from quackllm.server.pgwire.errors import SqlState, WireError
from quackllm.server.pgwire.scram import Verifier, read_verifier, verifier_of

if TYPE_CHECKING:
    from quackllm.server.pgwire.statements import Parsed

_KEYS = ("password", "read_only", "databases", "models", "settings")
_OF_MODELS = frozenset({"model", "base_url", "provider", "api_key"})
"""Settings that choose who answers."""


class UsersFileError(Exception):
    """The users file cannot be read as one; the message says where and why."""


@dataclass(frozen=True)
class Role:
    """A user.

    verifier: of the password; None lets anybody in, which the server allows locally only.
    databases: those that it may connect to, None for all.
    models: those that may answer, None for all.
    settings: `llm_` settings that it begins with and cannot change, without the prefix.
    """

    name: str
    verifier: Verifier | None = None
    read_only: bool = False
    databases: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def check(self, parsed: Parsed) -> None:
        """Raise `WireError` for a statement that the role may not run."""
        words = parsed.words
        named = [word.lower().removeprefix(PREFIX) for word in words[:4]]
        if words[:1] in (("SET",), ("RESET",), ("PRAGMA",)):
            locked = set(self.settings) | (_OF_MODELS if self.models is not None else set())
            for name in named:
                if name in locked and not self._may_choose(name, parsed):
                    raise _denied(f"role {self.name} may not change {PREFIX}{name}")
        if self.models is None:
            return
        if "MODEL" in words[1:4] and words[0] in ("CREATE", "DROP"):
            raise _denied(f"role {self.name} may not {words[0].lower()} models")
        for model in _models_named(parsed):
            if model not in self.models:
                raise _denied(
                    f"role {self.name} may not use the model {model!r}",
                    f"It may use {', '.join(self.models)}.",
                )

    def _may_choose(self, name: str, parsed: Parsed) -> bool:
        if name != "model" or name in self.settings or self.models is None:
            return False
        return parsed.statement.tokens[-1].text in self.models


def _denied(message: str, hint: str = "") -> WireError:
    return WireError(SqlState.PRIVILEGE, message, hint=hint)


def _models_named(parsed: Parsed) -> list[str]:
    """Return the models that calls of a statement name: model := 'name'."""
    tokens = parsed.statement.tokens
    return [
        tokens[i + 2].text
        for i in range(len(tokens) - 2)
        if tokens[i].text.lower() == "model" and tokens[i + 1].text == ":="
    ]


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
