"""Table functions that ask a model: FROM llm_search(...), anywhere in a statement.

DuckDB has no table functions in Python. Before a statement is planned, the rows of each use
of one of ours are put into a temporary table, which then stands in its place (`resolver`).
DuckDB itself knows such a function as a macro with the right columns, so that it can bind
views and relations; evaluated as it is, the macro is an error, never rows (`registry`).
"""

from quackllm.engine.table_functions.base import Request, Source, TableFunction, Workspace
from quackllm.engine.table_functions.registry import TableFunctions

__all__ = ["Request", "Source", "TableFunction", "TableFunctions", "Workspace"]
