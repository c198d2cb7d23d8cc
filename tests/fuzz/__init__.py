"""Random statements with LLM functions, run planned and naive, and compared.

cases.py      what a case is: tables, a statement, and what its answer is judged by
source.py     the random choices, in an order in which they shrink
data.py       tables
calls.py      calls of LLM functions, by the type that is wanted
expressions.py, subqueries.py, windows.py   typed expressions around them
sources.py    FROM: tables, subqueries, joins of every kind
selects.py, queries.py, statements.py       SELECT blocks, set operations, CTEs, whole cases
runner.py     one case both ways; judge.py    what may differ and what may not
campaign.py, run.py      the long run and its report; regressions.py   what was once wrong

table_functions.py           LLM_SEARCH and llm_dedup, which the naive side reads as tables

Not generated: LIMIT without a total order anywhere but at the outermost level, first() and
any_value(), positional joins and samples of fixed rows, whose answers DuckDB itself does not
fix; arithmetic that can overflow, whose errors depend on which rows are evaluated.
"""
