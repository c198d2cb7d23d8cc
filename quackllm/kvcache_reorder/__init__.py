"""The order of rows and fields in which prompts reuse most of a prefix cache.

Give `order` a table, or `order_fields` the fields already rendered; an `Ordering`
comes back: indices only. Nothing here does I/O or imports the rest of quackllm, and
NumPy is all it needs; Arrow and pandas columns are taken where they are passed in.
How it works and what it reaches: docs/reordering.md.
"""

from quackllm.kvcache_reorder.encode import Field, Measure
from quackllm.kvcache_reorder.objective import Objective, ObjectiveName, Server, make_objective
from quackllm.kvcache_reorder.ordering import Ordering
from quackllm.kvcache_reorder.portfolio import Algorithm
from quackllm.kvcache_reorder.render import Rendering, fields_of
from quackllm.kvcache_reorder.reorder import order, order_fields

__all__ = [
    "Algorithm",
    "Field",
    "Measure",
    "Objective",
    "ObjectiveName",
    "Ordering",
    "Rendering",
    "Server",
    "fields_of",
    "make_objective",
    "order",
    "order_fields",
]
