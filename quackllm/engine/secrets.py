"""CREATE SECRET and DROP SECRET for keys of model servers.

DuckDB refuses types of secrets that no extension brings, and writes every statement to its
query log; so secrets of the types `openai` and `llm` are kept here, in memory, and DuckDB
never sees the statement. All other types are DuckDB's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlglot.tokenizer_core import TokenType

from quackllm.engine.providers.config import Address, Secret
from quackllm.engine.statement import Statement
from quackllm.errors import BindError

NAME = r'("(?:[^"]|"")+"|\w+)'
CREATE = re.compile(
    rf"\s*CREATE\s+(OR\s+REPLACE\s+)?(?:(TEMP|TEMPORARY|PERSISTENT)\s+)?SECRET\s*"
    rf"(IF\s+NOT\s+EXISTS\s+)?(?:{NAME}\s*)??(?:\bIN\s+(\w+)\s*)?\((.*)\)\s*$",
    re.IGNORECASE | re.DOTALL,
)
DROP = re.compile(
    rf"\s*DROP\s+(?:(?:TEMP|TEMPORARY)\s+)?SECRET\s+(IF\s+EXISTS\s+)?{NAME}"
    r"(?:\s+FROM\s+memory)?\s*$",
    re.IGNORECASE,
)
TYPES = ("openai", "llm")
TEXT = re.compile(r"'(?:[^']|'')*'")
MEMBER = re.compile(r"\s*(\w+)\s+('(?:[^']|'')*'|\$\w+|\w+)\s*(?:,(?!\s*$)|$)")
KEYS = ("TYPE", "KEY", "SCOPE", "BASE_URL")
OPENAI = "https://api.openai.com"


@dataclass(frozen=True)
class NamedSecret:
    """A key, and the addresses that it is for: those at or below `scope`."""

    name: str
    type: str
    scope: Address
    key: Secret


def is_secret_command(statement: Statement, secrets: Mapping[str, NamedSecret]) -> bool:
    """Whether a statement makes a secret for a model server, or drops one of ours."""
    if statement.first_word == "CREATE":
        typed = any(
            word.token_type != TokenType.STRING
            and word.text.upper() == "TYPE"
            and value.text.lower() in TYPES
            for word, value in pairwise(statement.tokens)
        )
        return typed and CREATE.match(statement.without_comments) is not None
    if statement.first_word != "DROP":
        return False
    dropped = DROP.match(statement.without_comments)
    return bool(dropped and _plain(dropped[2]).lower() in secrets)


def change_secrets(
    statement: Statement,
    secrets: dict[str, NamedSecret],
    evaluate: Callable[[str], Any],
) -> None:
    """Carry out a secret command.

    Raises `BindError`; it repeats nothing that may be a key.
    """
    sql = statement.without_comments
    dropped = DROP.match(sql)
    if dropped:
        del secrets[_plain(dropped[2]).lower()]
        return
    created = CREATE.match(sql)
    assert created is not None
    replace_it, kind, if_missing, written, storage, body = created.groups()
    if (kind or "").upper() == "PERSISTENT" or (storage or "memory").lower() != "memory":
        raise BindError(
            "Binder Error: secrets for model servers are kept in memory only, for as long as "
            "the connection: CREATE SECRET, not CREATE PERSISTENT SECRET"
        )
    given = _members(body, evaluate)
    type_ = str(given["TYPE"]).lower()
    name = f"__default_{type_}" if written is None else _plain(written)
    if name.lower() in secrets and not replace_it:
        if if_missing:
            return
        raise BindError(f'Binder Error: Secret with name "{name}" already exists!')
    secrets[name.lower()] = NamedSecret(name, type_, _scope(type_, given), Secret(given["KEY"]))


def _members(body: str, evaluate: Callable[[str], Any]) -> dict[str, str]:
    given: dict[str, str] = {}
    at = 0
    while at < len(body.rstrip()):
        found = MEMBER.match(body, at)
        if found is None or found[1].upper() not in KEYS:
            raise BindError(
                "Parser Error: CREATE SECRET for a model server takes TYPE openai or TYPE llm, "
                "KEY '...', and SCOPE (or BASE_URL) 'http...', separated by commas"
            )
        value = found[2] if found[2].isidentifier() else constant(found[2], evaluate)
        if not isinstance(value, str) or not value.strip():
            raise BindError(f"Binder Error: CREATE SECRET: {found[1].upper()} must be a text")
        given[found[1].upper()] = value.strip()
        at = found.end()
    if "KEY" not in given:
        raise BindError("Binder Error: CREATE SECRET: KEY '...' is missing")
    return given


def _scope(type_: str, given: Mapping[str, str]) -> Address:
    written = given.get("SCOPE") or given.get("BASE_URL") or (OPENAI if type_ == "openai" else "")
    if not written.startswith(("http://", "https://")):
        raise BindError(
            "Binder Error: CREATE SECRET: SCOPE 'http...' has to say which server the key is "
            "for; it is sent nowhere else"
        )
    return Address.parse(written)


def constant(written: str, evaluate: Callable[[str], Any]) -> Any:
    """Return the value of a text in quotes, which DuckDB does not get to see, or of anything
    else, which it evaluates: it logs what it runs."""
    if TEXT.fullmatch(written):
        return written[1:-1].replace("''", "'")
    return evaluate(written)


def secret_for(secrets: Iterable[NamedSecret], url: str) -> Secret | None:
    """Return the key for an address: that of the longest scope, the latest of equals."""
    address = Address.parse(url)
    fitting = [each for each in secrets if address.within(each.scope)]
    if not fitting:
        return None
    return max(reversed(fitting), key=lambda each: len(each.scope.url)).key


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
