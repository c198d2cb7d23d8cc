"""The interactive shell: `quackllm` at a terminal."""
