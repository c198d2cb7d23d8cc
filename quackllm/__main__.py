"""`python -m quackllm` is the `quackllm` command."""

from __future__ import annotations

import sys

from quackllm.server.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
