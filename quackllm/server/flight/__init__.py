"""Arrow Flight SQL: the databases of `quackllm serve` for ADBC and other Arrow clients."""
