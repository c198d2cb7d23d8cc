"""The engine behind the DuckDB extension: calls and statements of DuckDB shells."""
