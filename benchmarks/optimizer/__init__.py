"""Calls and tokens of plans: DuckDB's own, ours, and the fewest that decide the result."""
