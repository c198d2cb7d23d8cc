"""SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side, as PostgreSQL speaks it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

MECHANISM = "SCRAM-SHA-256"
ITERATIONS = 4096

_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)")
_CLIENT_FIRST = re.compile(
    r"(?P<header>[ny],[^,]*,)(?P<bare>n=[^,]*,r=(?P<nonce>[^,]+)(?:,.*)?)", re.DOTALL
)
_CLIENT_FINAL = re.compile(
    r"(?P<bare>c=(?P<binding>[^,]*),r=(?P<nonce>[^,]+)(?:,.*)?),p=(?P<proof>[^,]+)", re.DOTALL
)


class ScramError(Exception):
    """The client's message is not one of SCRAM, or its proof is wrong."""


@dataclass(frozen=True)
class Verifier:
    """What a server keeps of a password; nobody can log in with it."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __str__(self) -> str:
        """The form that PostgreSQL keeps in pg_authid."""
        salt, stored, server = map(_encoded, (self.salt, self.stored_key, self.server_key))
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"


def verifier_of(password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> Verifier:
    """Make the verifier of a password, with a new salt unless one is given."""
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = _mac(salted, b"Client Key")
    stored_key = hashlib.sha256(client_key).digest()
    return Verifier(iterations, salt, stored_key, _mac(salted, b"Server Key"))


def is_password(verifier: Verifier | None, password: str) -> bool:
    """Whether a password is the one; a user that does not exist takes as long as a wrong one."""
    kept = verifier or Verifier(ITERATIONS, bytes(16), bytes(32), bytes(32))
    found = verifier_of(password, kept.salt, kept.iterations)
    return hmac.compare_digest(found.stored_key, kept.stored_key) and verifier is not None


def read_verifier(text: str) -> Verifier | None:
    """Read a verifier as PostgreSQL writes it; None for any other text."""
    found = _VERIFIER.fullmatch(text)
    if found is None:
        return None
    try:
        salt, stored, server = map(_decoded, found.groups()[1:])
    except ScramError:
        return None
    return Verifier(int(found[1]), salt, stored, server)


class Exchange:
    """One log-in: `challenge` answers the client's first message, `prove` its last."""

    def __init__(self, verifier: Verifier | None, mock_secret: bytes, user: str) -> None:
        """Begin; verifier None is a user that does not exist, who learns it at the end only.

        mock_secret: of this server, so that the salt shown for such a user stays the same.
        """
        self._known = verifier is not None
        if verifier is None:
            salt = _mac(mock_secret, user.encode())[:16]
            verifier = Verifier(ITERATIONS, salt, bytes(32), bytes(32))
        self._verifier = verifier
        self._nonce = ""
        self._header = b""
        self._messages = b""

    def challenge(self, data: bytes) -> bytes:
        """Answer the client's first message. Raises `ScramError`."""
        found = _CLIENT_FIRST.fullmatch(_text(data))
        if found is None:
            raise ScramError("malformed SCRAM message")
        self._header = found["header"].encode()
        self._nonce = found["nonce"] + secrets.token_urlsafe(18)
        verifier = self._verifier
        first = f"r={self._nonce},s={_encoded(verifier.salt)},i={verifier.iterations}"
        self._messages = f"{found['bare']},{first}".encode()
        return first.encode()

    def prove(self, data: bytes) -> bytes:
        """Check the client's proof; return the server's. Raises `ScramError`."""
        found = _CLIENT_FINAL.fullmatch(_text(data))
        if found is None:
            raise ScramError("malformed SCRAM message")
        if _decoded(found["binding"]) != self._header:
            raise ScramError("SCRAM channel binding check failed")
        if not hmac.compare_digest(found["nonce"].encode(), self._nonce.encode()):
            raise ScramError("SCRAM nonce does not match")
        message = self._messages + b"," + found["bare"].encode()
        signature = _mac(self._verifier.stored_key, message)
        proof = _decoded(found["proof"])
        if len(proof) != len(signature):
            raise ScramError("malformed SCRAM proof")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        right = hmac.compare_digest(hashlib.sha256(client_key).digest(), self._verifier.stored_key)
        if not (right and self._known):
            raise ScramError("password authentication failed")
        return b"v=" + _encoded(_mac(self._verifier.server_key, message)).encode()


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ScramError("malformed SCRAM message") from None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ScramError("malformed SCRAM message") from None
