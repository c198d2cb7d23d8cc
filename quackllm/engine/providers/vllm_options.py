"""`llm_vllm_options`: what vLLM in this process is started with, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

OPTIONS: Mapping[str, type[int] | type[float] | type[str] | type[bool]] = {
    "block_size": int,
    "dtype": str,
    "enable_prefix_caching": bool,
    "enforce_eager": bool,
    "gpu_memory_utilization": float,
    "kv_cache_memory_bytes": int,
    "max_model_len": int,
    "max_num_batched_tokens": int,
    "max_num_seqs": int,
    "quantization": str,
}
"""vLLM's names of what may be set. Nothing that runs code of a model or fetches anything."""


def options_text(value: Any) -> str:
    """Read options from a JSON object or a mapping; return them as JSON, sorted by name.

    Raises `ValueError` with what would be right.
    """
    try:
        given = value if isinstance(value, Mapping) else json.loads(value)
    except (TypeError, ValueError):
        given = None
    if not isinstance(given, Mapping):
        raise ValueError("must be a JSON object, such as '{\"max_model_len\": 8192}'")
    for name, option in given.items():
        if name not in OPTIONS:
            close = get_close_matches(name, OPTIONS, n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise ValueError(f"names no option {name}{hint}; options are {', '.join(OPTIONS)}")
        wanted = OPTIONS[name]
        fits = isinstance(option, int | float) if wanted is float else isinstance(option, wanted)
        if not fits or (isinstance(option, bool) and wanted is not bool):
            raise ValueError(f"takes a {wanted.__name__} as {name}, not {option!r}")
    return json.dumps(dict(given), sort_keys=True)


def options_of(text: str | None) -> dict[str, Any]:
    """Return what `options_text` has written; {} for None."""
    options: dict[str, Any] = {} if text is None else json.loads(text)
    return options
