"""The PostgreSQL wire protocol, version 3.0, in front of quackllm connections."""
