"""LLM functions over real tables on the embedded model: rows, failures, cost, accuracy.

    python -m benchmarks.embedded.real_tables [--data DIR] [--reviews 300] [--receipts 50]

Sentiment of movie reviews (rt_polarity) with LLM_CLASSIFY, and fields of scanned receipts
(sroie_receipts) with LLM_EXTRACT, against the labels of the tables. Labels are never part
of a prompt. The figures are what a model of 135 million parameters gives, whatever they are.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import quackllm
from quackllm.engine.connection import Connection

SENTIMENT = """
SELECT count(*) AS reviews, count(answer) AS answered,
       round(avg((lower(answer) = lower(label))::INTEGER), 3) AS accuracy
FROM (SELECT label, LLM_CLASSIFY(sentence, ['positive', 'negative']) AS answer FROM reviews)
"""
RECEIPTS = """
SELECT count(*) AS receipts, count(e) AS answered,
       round(avg((upper(trim(e.company)) = upper(trim(company)))::INTEGER), 3) AS company,
       round(avg((e.date = date)::INTEGER), 3) AS date,
       round(avg((abs(e.total - TRY_CAST(total AS DOUBLE)) < 0.005)::INTEGER), 3) AS total
FROM (SELECT *, LLM_EXTRACT(text, {'company': 'VARCHAR: name of the shop',
                                   'date': 'VARCHAR: as printed',
                                   'total': 'DOUBLE: amount to pay'}) AS e FROM receipts)
"""


def report(connection: Connection, sql: str) -> None:
    """Run one statement; print its row, its cost and its failures by cause."""
    print(connection.sql(sql))
    print(connection.llm_engine.history[-1].summary())
    statement = connection.llm_engine.history[-1].number
    causes = connection.execute(
        f"SELECT cause, count(*) FROM llm_errors() WHERE statement = {statement} GROUP BY ALL"
    ).fetchall()
    print("failures:", dict(causes) or "none", flush=True)


def main() -> None:
    """Run both tables."""
    options = argparse.ArgumentParser(description=__doc__)
    folder = os.environ.get("QUACKLLM_BENCH_DATA", "../shared/data")
    options.add_argument("--data", type=Path, default=Path(folder))
    options.add_argument("--reviews", type=int, default=300)
    options.add_argument("--receipts", type=int, default=50)
    chosen = options.parse_args()
    tables = chosen.data / "tables"
    if not tables.is_dir():
        options.error(f"no tables in {tables}: name the folder by --data or QUACKLLM_BENCH_DATA")
    with quackllm.connect(progress=False, cache_path=":memory:") as connection:
        for name, source, rows in (
            ("reviews", "rt_polarity", chosen.reviews),
            ("receipts", "sroie_receipts", chosen.receipts),
        ):
            connection.execute(
                f"CREATE TABLE {name} AS FROM '{tables}/{source}.parquet' "
                f"USING SAMPLE reservoir({rows} ROWS) REPEATABLE (1)"
            )
        report(connection, SENTIMENT)
        report(connection, RECEIPTS)


if __name__ == "__main__":
    main()
