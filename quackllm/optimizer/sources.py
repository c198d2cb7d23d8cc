"""The sources of a FROM: which of them a column belongs to, and when its NULLs decide."""

from __future__ import annotations

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.scope import in_scope
from quackllm.optimizer.sql import ModelCall, find_all

STRICT = (
    exp.Paren,
    exp.Cast,
    exp.TryCast,
    exp.Neg,
    exp.Not,
    exp.EQ,
    exp.NEQ,
    exp.GT,
    exp.GTE,
    exp.LT,
    exp.LTE,
    exp.Add,
    exp.Sub,
    exp.Mul,
    exp.Like,
    exp.ILike,
)
"""Operators that are NULL as soon as one operand is."""


class Sources:
    """The sources of one block, in the order of FROM and its joins."""

    def __init__(self, select: exp.Select, catalog: Catalog) -> None:
        from_ = select.args.get("from_")
        self.trees: list[exp.Expr] = [] if from_ is None else [from_.this]
        self.trees += [join.this for join in select.args.get("joins", [])]
        self._select = select
        self._catalog = catalog
        self._names: list[frozenset[str] | None] | None = None

    def of(self, column: exp.Column, among: int | None = None) -> int | None:
        """The position of the source that a column belongs to; None when it is not clear.

        among: how many of the sources, the first ones, the column may belong to.
        """
        trees = self.trees[:among]
        if column.table:
            table = column.table.lower()
            found = [i for i, tree in enumerate(trees) if tree.alias_or_name.lower() == table]
        else:
            name = column.name.lower()
            names = self._columns()[:among]
            if None in names:
                return None
            found = [i for i, known in enumerate(names) if known is not None and name in known]
        return found[0] if len(found) == 1 else None

    def _columns(self) -> list[frozenset[str] | None]:
        """Names of the columns of each source; None for one that does not stand alone."""
        if self._names is None:
            self._names = [self._columns_of(tree) for tree in self.trees]
        return self._names

    def _columns_of(self, tree: exp.Expr) -> frozenset[str] | None:
        if isinstance(tree, exp.Table) and tree.args.get("joins"):
            return None
        query = exp.Select(expressions=[exp.Star()]).from_(tree.copy())
        columns = self._catalog.columns(in_scope(self._select, query))
        return None if columns is None else frozenset(name.lower() for name, _ in columns)

    def lacks(self, column: exp.Column) -> bool:
        """Whether a column is certainly of none of the sources."""
        if column.table:
            return column.table.lower() not in {tree.alias_or_name.lower() for tree in self.trees}
        names = self._columns()
        return all(known is not None and column.name.lower() not in known for known in names)

    def stands_alone(self, source: int) -> bool:
        """Whether a source can be read without the others."""
        return self._columns()[source] is not None

    def all_of(self, tree: exp.Expr) -> frozenset[int] | None:
        """The sources that a tree reads; None when one of its columns is not clear."""
        if tree.find(exp.Query, exp.Star) is not None:
            return None
        found = {self.of(column) for column in find_all(tree, exp.Column)}
        return None if None in found else frozenset(i for i in found if i is not None)

    def qualified(self, tree: exp.Expr, among: int) -> exp.Expr | None:
        """Copy a tree, its columns with the names of their sources; None if that is not clear.

        among: how many of the sources, the first ones, the tree can see where it stands.
        """
        if tree.find(exp.Query, exp.Star, exp.Lambda, exp.Comprehension) is not None:
            return None
        copy = tree.copy()
        for column in list(find_all(copy, exp.Column)):
            source = self.of(column, among)
            if source is None:
                return None
            name = self.trees[source].alias_or_name
            column.set("table", exp.to_identifier(name, quoted=True))
        return copy

    def rejected(self, condition: exp.Expr) -> frozenset[int]:
        """Sources without whose values (all of them NULL) a condition is not TRUE."""
        node = condition.unnest()
        if isinstance(node, exp.And):
            return self.rejected(node.left) | self.rejected(node.right)
        if isinstance(node, exp.Or):
            return self.rejected(node.left) & self.rejected(node.right)
        if isinstance(node, exp.Not) and isinstance(node.this.unnest(), exp.Is):
            test = node.this.unnest()
            is_null = isinstance(test.expression, exp.Null)
            return self._null_with(test.this) if is_null else frozenset()
        if isinstance(node, exp.Is) and isinstance(node.expression, exp.Boolean):
            return self.rejected(node.this) if node.expression.this else self._null_with(node.this)
        if isinstance(node, exp.Between):
            parts = (node.this, node.args["low"], node.args["high"])
            return frozenset().union(*map(self._null_with, parts))
        if isinstance(node, exp.In):
            return self._null_with(node.this)
        return self._null_with(node)

    def _null_with(self, node: exp.Expr) -> frozenset[int]:
        """Sources without whose values an expression is NULL."""
        if isinstance(node, exp.Column):
            source = self.of(node)
            return frozenset() if source is None else frozenset({source})
        if isinstance(node, ModelCall):  # NULL when all fields are
            fields = [self._null_with(field) for field in node.expressions]
            return frozenset.intersection(*fields) if fields else frozenset()
        if isinstance(node, STRICT):
            return frozenset().union(*map(self._null_with, node.iter_expressions()))
        return frozenset()
