"""One generated table in a process of its own: time and peak memory as a line of JSON.

python -m benchmarks.reorder.scale FILE.parquet SECONDS
"""

from __future__ import annotations

import json
import resource
import sys
import time

import pyarrow.parquet as pq

from quackllm.kvcache_reorder import order


def main() -> None:
    """Read the table, order it within the budget ('-' for the default), report."""
    path, budget = sys.argv[1:]
    table = pq.read_table(path)
    begin = time.process_time()
    ordering = order(table, "blocks", seconds=None if budget == "-" else float(budget))
    report = {
        "rows": table.num_rows,
        "seconds": ordering.seconds,
        "cpu": time.process_time() - begin,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rate": 100 * ordering.hit_rate,
        "baseline": 100 * ordering.baseline_hit_rate,
        "algorithm": ordering.algorithm,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
