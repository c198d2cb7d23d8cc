"""Ways to write rows as text, by the names that DuckDB's shell has for them."""
