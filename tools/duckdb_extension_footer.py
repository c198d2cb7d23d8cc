"""Make a loadable DuckDB extension of a shared library: append the footer that DuckDB looks for.

    python -m tools.duckdb_extension_footer build/quackllm.so build/quackllm.duckdb_extension

The footer is 512 bytes: eight fields of 32, the last one first, and 256 for a signature, which
stays empty (a shell has to be started with -unsigned).
"""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import version
from pathlib import Path

FIELD = 32
SIGNATURE = 256
FORMAT = "4"
ABI = "C_STRUCT"
API_VERSION = "v1.2.0"
"""Of DuckDB's C API: the first that is stable; newer DuckDBs accept what asks for it."""

PLATFORMS = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def platform_name(system: str, machine: str) -> str:
    """Return DuckDB's name of a platform, such as linux_amd64."""
    return f"{'osx' if system == 'Darwin' else system.lower()}_{PLATFORMS[machine.lower()]}"


def footer(platform_: str, extension_version: str) -> bytes:
    """Return the 512 bytes."""
    first_to_last = (FORMAT, platform_, API_VERSION, extension_version, ABI, "", "", "")
    fields = [field.encode().ljust(FIELD, b"\0") for field in reversed(first_to_last)]
    return b"".join(fields) + bytes(SIGNATURE)


def main() -> None:
    """Read a library, write an extension."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path)
    parser.add_argument("extension", type=Path)
    options = parser.parse_args()
    named = platform_name(platform.system(), platform.machine())
    options.extension.write_bytes(
        options.library.read_bytes() + footer(named, "v" + version("quackllm"))
    )


if __name__ == "__main__":
    main()
