"""`pg_catalog` and `information_schema`, in a private DuckDB that holds metadata only."""

from quackllm.server.pgwire.catalog.catalog import Catalog, CatalogDatabase

__all__ = ["Catalog", "CatalogDatabase"]
