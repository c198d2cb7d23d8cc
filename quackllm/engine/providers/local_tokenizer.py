"""The tokens of a prompt from a file: for servers and APIs that do not tell them.

Most published models come with a `tokenizer.json`, which the package `tokenizers` reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quackllm.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokenizers import Tokenizer

FILE_NAME = "tokenizer.json"


class LocalTokenizer:
    """Counts the tokens of chats as the model of its file does, but for those of the template."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Wrap a tokenizer; made by `open_local_tokenizer`."""
        self._tokenizer = tokenizer

    def tokens(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the tokens of a chat, without those that its template adds to each message."""
        text = "\n".join(message["content"] for message in messages)
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return tokens


def open_local_tokenizer(path: str) -> LocalTokenizer:
    """Read a `tokenizer.json`, or the one in a directory.

    Raises `ProviderError` for a file that is missing or holds no tokenizer, and where the
    package `tokenizers` is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise ProviderError(
            f"llm_tokenizer = {path!r} needs a package: pip install 'quackllm[tokenizer]'"
        ) from error
    file = Path(path).expanduser()
    file = file / FILE_NAME if file.is_dir() else file
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ProviderError(
            f"llm_tokenizer = {path!r}: {file} cannot be read ({error.strerror}); it is to be the "
            f"{FILE_NAME} of the model, or a directory that has one"
        ) from error
    try:
        return LocalTokenizer(Tokenizer.from_buffer(content))
    except ValueError as error:
        raise ProviderError(
            f"llm_tokenizer = {path!r}: {file} is not a {FILE_NAME} that this version of the "
            f"package tokenizers can read"
        ) from error
