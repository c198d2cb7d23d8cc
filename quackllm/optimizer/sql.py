"""SQL text to trees and back, without changing what the text says.

sqlglot's DuckDB dialect translates: it renames functions to a common vocabulary and
rewrites idioms, which is right between dialects and wrong here, where the statement
comes from DuckDB and goes back to DuckDB. `Verbatim` keeps every function as it was
written. Whether a tree still says what the text said is checked by the engine against
DuckDB's own parser (see `quackllm.engine.reading`); nothing here has to be trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError
from sqlglot.generators.duckdb import DuckDBGenerator
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.tokenizer_core import Token, TokenType

from quackllm.errors import QuackLLMError
from quackllm.optimizer.dollars import MISREAD, relocate, spaced

_E = TypeVar("_E", bound=exp.Expr)

SPECIAL_SYNTAX = ("CAST", "TRY_CAST", "EXTRACT", "TRIM", "POSITION", "OVERLAY", "SUBSTRING")
"""Functions with a grammar of their own inside the parentheses."""


class Verbatim(DuckDB):
    """DuckDB's dialect with no function known, so that none is renamed."""

    INDEX_OFFSET = 0
    """Subscripts stay as written: sqlglot would count them from 0, and back from 1 only
    where it still knows the type of what is subscripted, which a call's answer loses."""

    class Parser(DuckDBParser):
        """DuckDB's grammar; calls stay `Anonymous` with their arguments as written."""

        FUNCTIONS: ClassVar[dict[str, Any]] = {}
        NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            name: parser
            for name, parser in DuckDBParser.FUNCTION_PARSERS.items()
            if name in SPECIAL_SYNTAX
        }
        NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            name: parser
            for name, parser in DuckDBParser.NO_PAREN_FUNCTION_PARSERS.items()
            if name != "IF"
        }

        def expression(
            self, instance: _E, token: Token | None = None, comments: list[str] | None = None
        ) -> _E:
            """Make a node without its place in the text: nobody asks, and copies are cheaper."""
            made: _E = super().expression(instance, None, comments)
            return made

        def _parse_lambda(self, alias: bool = False) -> exp.Expr | None:
            """Read an argument; named ones behind DISTINCT too, as in f(DISTINCT x, n := 1)."""
            if not self._match(TokenType.DISTINCT):
                argument: exp.Expr | None = super()._parse_lambda(alias=alias)
                return argument
            given = self._parse_csv(self._parse_assignment)
            distinct: exp.Expr | None = self.expression(exp.Distinct(expressions=given))
            return self._parse_respect_or_ignore_nulls(self._parse_order(distinct))

    class Generator(DuckDBGenerator):
        """DuckDB's text of a tree."""

        MULTI_ARG_DISTINCT = True
        """f(DISTINCT x, y) stays as it is: of our aggregates, x alone is distinct."""

        def join_sql(self, expression: exp.Join, join_op: str | None = None) -> str:
            """Write a join; a comma before unnest(...) as one, which sqlglot makes JOIN ... ON."""
            if join_op is None and isinstance(expression.this, exp.Unnest) and is_comma(expression):
                return f", {self.sql(expression, 'this')}"
            return super().join_sql(expression, join_op)

        def ignorenulls_sql(self, expression: exp.IgnoreNulls) -> str:
            """Write IGNORE NULLS where it stood; sqlglot drops it of functions unknown to it."""
            return f"{self.sql(expression, 'this')} IGNORE NULLS"

        def respectnulls_sql(self, expression: exp.RespectNulls) -> str:
            """Write RESPECT NULLS where it stood."""
            return f"{self.sql(expression, 'this')} RESPECT NULLS"

    class Tokenizer(DuckDB.Tokenizer):
        """DuckDB's tokens; no word turns the rest of the statement into one string."""

        COMMANDS: ClassVar[set[Any]] = set()

    def tokenize(self, sql: str, dialect: Any = None) -> list[Token]:
        """Cut a text into tokens. Raises `sqlglot.errors.TokenError`."""
        if MISREAD.search(sql) is None:
            return list(super().tokenize(sql, dialect))
        text, places = spaced(sql)
        tokens = list(super().tokenize(text, dialect))
        relocate(tokens, places)
        return tokens

    def to_json_path(self, path: exp.Expr | None) -> exp.Expr | None:
        """Leave the right side of `->` and `->>` alone."""
        return path


DIALECT = Verbatim()


class ModelCall(exp.Expression):
    """A bound LLM call in a tree: `this` is the call's spec, `expressions` its fields."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "expressions": False}

    @property
    def spec(self) -> str:
        """The text that identifies the `Call`."""
        text: str = self.args["this"]
        return text


def require_extensible_sqlglot() -> None:
    """Raise `QuackLLMError` where sqlglot is compiled: such classes take no subclass of ours.

    sqlglot loads its compiled classes wherever the package `sqlglotc` is installed, and its
    authors keep them closed for speed (tobymao/sqlglot, issue 7923). No requirement in
    pyproject.toml can forbid a package, so it is said here, in place of mypyc's TypeError.
    """
    try:
        DIALECT.parser()
        ModelCall()
    except TypeError as error:
        raise QuackLLMError(
            "quackllm extends sqlglot's parser, and the compiled build that is installed "
            "(package sqlglotc, extra sqlglot[c]) cannot be extended. Remove it with "
            "`pip uninstall sqlglotc`; sqlglot itself stays, in Python."
        ) from error


def held(tree: exp.Expr) -> exp.Paren:
    """Put a tree under a parent, so that its root can be replaced like any other node."""
    return exp.Paren(this=tree)


def released(holder: exp.Paren) -> exp.Expr:
    """Take the tree from its parent again."""
    tree: exp.Expr = holder.this.pop()
    return tree


def parse(sql: str) -> exp.Expr:
    """Parse one statement; raises `SqlglotError` when sqlglot cannot."""
    statements = DIALECT.parse(sql)
    if len(statements) != 1 or statements[0] is None:
        raise SqlglotError("not one statement")
    return statements[0]


def text(node: exp.Expr, *, copy: bool = True) -> str:
    """Write a tree as DuckDB SQL; it must hold no `ModelCall`.

    copy: sqlglot may change the tree that it writes; False for one that is not read again.
    """
    return DIALECT.generate(node, copy=copy, normalize_functions=False, comments=False)


def raw(sql: str) -> exp.Expr:
    """Wrap SQL text as a leaf that is written as it is."""
    return exp.Var(this=sql)


def column(name: str, table: str | None = None) -> exp.Column:
    """Make a quoted column reference."""
    return exp.column(exp.to_identifier(name, quoted=True), table=table, quoted=True)


def quote(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Write a text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def json_fragment(sql: str) -> str:
    """Render a value as the model sees it: JSON text, never NULL.

    The rendering is also the value's identity: two values with the same text are the
    same argument, whatever their types or collations.
    """
    return f"coalesce(CAST(to_json({sql}) AS VARCHAR), 'null')"


FIELD_SEPARATOR = "chr(31)"
"""Between the fields of a key; JSON text never holds this character unescaped."""


def key(fragments: list[str]) -> str:
    """Join rendered fields into the key that answers are looked up by."""
    return f" || {FIELD_SEPARATOR} || ".join(fragments) if fragments else "''"


def some_value(fragments: list[str]) -> str:
    """Not all fields are NULL: such a row gets NULL without a call."""
    return " OR ".join(f"{fragment} <> 'null'" for fragment in fragments)


def join_at_select(root: exp.Expr) -> None:
    """Hang the joins of a FROM-first query where those of other queries hang, in place.

    Likewise those of a FROM that is one pair of parentheses, as DuckDB writes views.
    """
    for select in find_all(root, exp.Select):
        from_ = select.args.get("from_")
        source = from_.this if from_ is not None else None
        while from_ is not None and isinstance(source, exp.Table | exp.Subquery):
            if source.args.get("joins"):
                joins = source.args["joins"]
                source.set("joins", None)
                select.set("joins", [*joins, *select.args.get("joins", [])])
            if not isinstance(source.this, exp.Table | exp.Subquery) or source.args.get("alias"):
                break
            source.replace(source.this)
            source = from_.this


def is_comma(join: exp.Join) -> bool:
    """Whether a join is written as a comma."""
    written = ("kind", "side", "method", "on", "using")
    return not any(join.args.get(name) for name in written)


def cross_commas(select: exp.Select) -> None:
    """Write the commas of a FROM as CROSS JOIN, in place; none may bind weaker than a join.

    DuckDB 2.0 fails where a comma stands before two laterals of which one has a FROM, such as
    the planner gives it: "Binding rewrite lost projected child binding".
    """
    for join in select.args.get("joins", []):
        if is_comma(join):
            join.set("kind", "CROSS")


def nest_behind_commas(root: exp.Expr) -> None:
    """Set the joins behind a comma in parentheses, in place, where that is another FROM.

    A comma binds weaker than JOIN, and sqlglot lists both alike: in `FROM a, b FULL JOIN c`
    the join adds rows to b, not to the pairs of a and b, and USING means a column of b.
    Its condition may name a all the same: DuckDB joins laterally.
    """
    for select in list(find_all(root, exp.Select)):
        groups: list[list[exp.Join]] = []
        for join in select.args.get("joins", []):
            if not groups or is_comma(join):
                groups.append([])
            groups[-1].append(join)
        for first, *later in groups:
            if is_comma(first) and any(map(_differs_flat, later)):
                first.this.replace(_parenthesised(first.this, later))
                for join in later:
                    select.args["joins"].remove(join)


def join_behind_commas(root: exp.Expr) -> None:
    """Take the parentheses from joins behind a comma, in place: what `nest_behind_commas` undoes.

    `FROM a, b CROSS JOIN f(b.x)` stands in the text of a view as `FROM a, (b CROSS JOIN f(b.x))`.
    """
    for select in list(find_all(root, exp.Select)):
        joins: list[exp.Join] = []
        for join in select.args.get("joins", []):
            joins.append(join)
            nested = join.this
            if not is_comma(join) or not is_parenthesised_join(nested) or nested.alias:
                continue
            inner = nested.this.args.get("joins") or []
            if not any(map(_differs_flat, inner)) and not nested.args.get("joins"):
                nested.this.set("joins", None)
                nested.replace(nested.this)
                joins.extend(inner)
        if joins:
            select.set("joins", joins)


def _differs_flat(join: exp.Join) -> bool:
    outer = (join.side or "").upper() in ("RIGHT", "FULL")
    return outer or bool(join.args.get("using")) or join.method in ("NATURAL", "POSITIONAL")


def _parenthesised(source: exp.Expr, joins: list[exp.Join]) -> exp.Subquery:
    if not isinstance(source, exp.Table | exp.Subquery):
        query = exp.Select(expressions=[exp.Star()]).from_(source.copy())
        alias = exp.TableAlias(this=exp.to_identifier(source.alias_or_name, quoted=True))
        source = exp.Subquery(this=query, alias=alias)
    held_joins = source.copy()
    held_joins.set("joins", [*held_joins.args.get("joins", []), *(join.copy() for join in joins)])
    return exp.Subquery(this=held_joins)


def is_parenthesised_join(node: exp.Expr) -> bool:
    """Whether a node is joins in parentheses, which sqlglot takes for a query."""
    return isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table | exp.Subquery)


LONG_CHAIN = 50
"""Operands of AND or OR above which a chain is made a tree that is as wide as it is deep."""


def bare_keys(root: exp.Expr) -> None:
    """Take the parentheses from keys of ORDER BY and GROUP BY, in place.

    `(1)` is a position and `(k)` an alias there, as they are without.
    """
    for query in list(find_all(root, exp.Query)):
        group, order = query.args.get("group"), query.args.get("order")
        if group is not None:
            group.set("expressions", [bare(key) for key in group.expressions])
        for key in order.expressions if isinstance(order, exp.Order) else []:
            if isinstance(key, exp.Ordered):
                key.set("this", bare(key.this))


def sort_by_all(root: exp.Expr) -> None:
    """Write `ORDER BY COLUMNS(*)` as ALL, in place: in the text of a view DuckDB keeps ALL so."""
    for query in list(find_all(root, exp.Query)):
        order = query.args.get("order")
        keys = order.expressions if isinstance(order, exp.Order) else []
        key = keys[0].this if len(keys) == 1 else None
        if isinstance(key, exp.Anonymous) and text(key).upper() == "COLUMNS(*)":
            key.replace(exp.Var(this="ALL"))


def balance_chains(root: exp.Expr) -> None:
    """Make balanced trees of long chains of AND or OR, in place: rules walk them recursively.

    Both are associative, and the tree is written as the chain was.
    """
    for top in list(find_all(root, exp.And, exp.Or)):
        if type(top.parent) is type(top):
            continue
        operands: list[exp.Expr] = []
        node: exp.Expr = top
        while type(node) is type(top):
            operands.append(node.right)
            node = node.left
        operands.append(node)
        if len(operands) > LONG_CHAIN:
            top.replace(_balanced(type(top), [part.pop() for part in operands[::-1]]))


def _balanced(connector: type[exp.Connector], operands: list[exp.Expr]) -> exp.Expr:
    if len(operands) == 1:
        return operands[0]
    half = len(operands) // 2
    left, right = (_balanced(connector, part) for part in (operands[:half], operands[half:]))
    return connector(this=left, expression=right)


def bare(node: exp.Expr) -> exp.Expr:
    """An expression without its parentheses; `unnest` would take those of a subquery too."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def conjuncts(node: exp.Expr | None) -> list[exp.Expr]:
    """Split a condition at its top-level ANDs, outer parentheses removed."""
    parts: list[exp.Expr] = []
    waiting = [] if node is None else [node]
    while waiting:  # a chain of a thousand ANDs is as deep as it is long
        part = bare(waiting.pop())
        if isinstance(part, exp.And):
            waiting.extend((part.right, part.left))
        else:
            parts.append(part)
    return parts


def conjunction(parts: list[exp.Expr]) -> exp.Expr | None:
    """AND the parts together, each in parentheses where it needs them."""
    result: exp.Expr | None = None
    for part in parts:
        wrapped = exp.paren(part.copy(), copy=False) if needs_parens(part) else part.copy()
        result = wrapped if result is None else exp.And(this=result, expression=wrapped)
    return result


def needs_parens(node: exp.Expr) -> bool:
    """Whether an operand has to be set in parentheses under AND."""
    return isinstance(node, exp.Or | exp.Xor | exp.Var | exp.Lambda)


def children(node: exp.Expr) -> list[exp.Expr]:
    """List the parts of a node, in the order of sqlglot's `iter_expressions`.

    Planning walks trees all the time, and a generator for every node is most of a walk's cost.
    """
    found: list[exp.Expr] = []
    tree = exp.Expr
    for value in node.args.values():
        if isinstance(value, tree):
            found.append(value)
        elif isinstance(value, list):
            found.extend([part for part in value if isinstance(part, tree)])
    return found


def find_all(tree: exp.Expr, *classes: type[_E]) -> Iterator[_E]:
    """Yield the nodes of a tree that are of some classes, in the order of sqlglot's `find_all`."""
    waiting = [tree]
    for node in waiting:  # which grows meanwhile
        if isinstance(node, classes):
            yield node
        waiting.extend(children(node))


def own_nodes(node: exp.Expr) -> Iterator[exp.Expr]:
    """Walk a tree in evaluation order of its parts, not entering nested queries."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        yield part
        waiting.extend([child for child in reversed(children(part)) if not _nested(child)])


def _nested(node: exp.Expr) -> bool:
    """Whether a node is a query of its own rather than joins in parentheses."""
    return isinstance(node, exp.Query) and not is_parenthesised_join(node)


def has_calls(node: exp.Expr | None) -> bool:
    """Whether a call of a model stands anywhere in the tree, nested queries included."""
    return node is not None and next(find_all(node, ModelCall), None) is not None


def own_calls(node: exp.Expr | None) -> list[ModelCall]:
    """List the calls of a tree outside nested queries, arguments before what takes them."""
    if node is None or _nested(node):
        return []
    found: list[ModelCall] = []
    waiting = [node]
    while waiting:  # each node before its parts, the last part first
        part = waiting.pop()
        if isinstance(part, ModelCall):
            found.append(part)
        waiting.extend([child for child in children(part) if not _nested(child)])
    return found[::-1]


HARMLESS = (
    exp.Column,
    exp.Identifier,
    exp.Literal,
    exp.Null,
    exp.Boolean,
    exp.Paren,
    exp.Dot,
    exp.DPipe,
    exp.Struct,
    exp.PropertyEQ,
    exp.Array,
    exp.TryCast,
    exp.DataType,
)
"""Parts of expressions that have a value for every row."""


def never_fails(arg: exp.Expr) -> bool:
    """Whether an expression has a value for every row."""
    return all(isinstance(node, HARMLESS) for node in find_all(arg, exp.Expr))
