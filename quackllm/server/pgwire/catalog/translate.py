"""Queries about the catalog: found by their names, and put into DuckDB's dialect."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from quackllm.server.pgwire.catalog.definitions import INFORMATION_PREFIX
from quackllm.server.pgwire.catalog.functions import function_names
from quackllm.server.pgwire.errors import SqlState, WireError

if TYPE_CHECKING:
    from quackllm.server.pgwire.statements import Parsed

SCHEMAS = frozenset({"pg_catalog", "information_schema"})
TABLES = re.compile(r"pg_[a-z_]+")
REG_TYPES = frozenset({"regclass", "regtype", "regproc", "regprocedure", "regnamespace", "regrole"})
ZERO_BASED = frozenset({"indkey", "indoption", "indclass", "indcollation", "proargtypes"})
"""Columns of the types int2vector and oidvector, whose first element is number 0."""

OUR_FUNCTIONS = function_names() | {
    "pg_backend_pid", "pg_cancel_backend", "pg_terminate_backend", "set_config",
}  # fmt: skip

_OPERATOR = re.compile(r"\bOPERATOR\s*\(\s*(?:pg_catalog\.)?([^\s)]+)\s*\)", re.IGNORECASE)
_OIDS = re.compile(r"::\s*(?:pg_catalog\.)?oid\s*\[\]", re.IGNORECASE)
"""A cast that sqlglot takes for an index."""
_COLLATE = re.compile(
    r'\bCOLLATE\s+(?:pg_catalog\.|"pg_catalog"\.)?(?:"default"|default|"C"|"\w+")', re.IGNORECASE
)
_KEYWORD_AS_NAME = re.compile(
    r"'[^']*'|(?P<before>\w\.|\bAS\s+)(?P<word>select|table|order|group|user|desc|column)\b"
    r"(?=\s*(?:[,)]|$|\bFROM\b))",
    re.IGNORECASE,
)
"""A keyword that PostgreSQL takes for a name where it stands, or a text, which stays as it is."""

_OF_SESSION = (
    r"(?:(?:version|current_database|current_schema)\s*\(\s*\)|current_user|session_user|user"
    r"|current_role|current_catalog|current_schema)(?:\s+(?:AS\s+)?\"?\w+\"?)?"
)
_SESSION_QUERY = re.compile(
    rf"\s*SELECT\s+{_OF_SESSION}(?:\s*,\s*{_OF_SESSION})*\s*", re.IGNORECASE
)
"""Questions about the session alone, which DuckDB would answer about itself."""

_SESSION_WORDS = {
    exp.CurrentUser: "user",
    exp.SessionUser: "user",
    exp.CurrentDatabase: "database",
    exp.CurrentCatalog: "database",
    exp.CurrentSchema: "schema",
    exp.CurrentVersion: "version",
}
"""Functions that sqlglot knows, and what of the session they give."""

_SESSION_FUNCTIONS = {
    "current_database": "database",
    "current_catalog": "database",
    "current_schema": "schema",
    "current_role": "user",
    "user": "user",
    "version": "version",
    "pg_backend_pid": "pid",
}


_OF_THE_CALLER = frozenset({"pg_cancel_backend", "pg_terminate_backend"})
"""Functions that are told which session calls them."""

_WITH_ROWS = frozenset({"pg_partition_ancestors"})
"""Functions that stand in FROM too, where DuckDB has macros of another kind."""

_TABLE_OIDS = {
    "pg_attribute": 1249, "pg_class": 1259, "pg_constraint": 2606, "pg_database": 1262,
    "pg_language": 2612, "pg_namespace": 2615, "pg_opclass": 2616, "pg_operator": 2617,
    "pg_opfamily": 2753, "pg_proc": 1255, "pg_rewrite": 2618, "pg_trigger": 2620, "pg_type": 1247,
}  # fmt: skip
"""What the column `tableoid` of these tables has, which `*` does not show."""

_RENAMED = {"json_build_object": "json_object", "jsonb_build_object": "json_object"}


def is_about_catalog(parsed: Parsed) -> bool:
    """Whether a statement asks for what only the catalog has."""
    if parsed.statement.first_word not in ("SELECT", "WITH", "(", "TABLE", "VALUES"):
        return False
    words = [token.text.lower() for token in parsed.statement.tokens]
    for position, (word, following) in enumerate(zip(words, [*words[1:], ""], strict=True)):
        if word in SCHEMAS and following == ".":
            return True
        if word in REG_TYPES and position and words[position - 1] in ("::", "as"):
            return True
        if word in OUR_FUNCTIONS and following == "(":
            return True
        before = words[position - 1] if position else ""
        if before in ("from", "join", ",", "table") and TABLES.fullmatch(word):
            return True
    return bool(_SESSION_QUERY.fullmatch(parsed.sql)) or _asks_for_setting(words)


def _asks_for_setting(words: list[str]) -> bool:
    """Whether it is current_setting of PostgreSQL's; others are DuckDB's."""
    for position, word in enumerate(words[:-2]):
        if word == "current_setting" and words[position + 1] == "(":
            name = words[position + 2]
            return name in ("server_version_num", "server_version", "server_encoding",
                            "standard_conforming_strings", "is_superuser", "datestyle",
                            "application_name", "max_index_keys", "bytea_output")  # fmt: skip
    return False


_SCHEMAS_LOOKED_IN = sqlglot.parse_one("['main', 'pg_catalog']", read="duckdb")


class Translator:
    """Rewrites a catalog query; values are those of the session: user, database, schema, ..."""

    def __init__(
        self, values: Mapping[str, str | int], setting: Callable[[str], str | None]
    ) -> None:
        """setting: gives the value of a setting by its name, None for one that is not known."""
        self._values = values
        self._setting = setting

    def __call__(self, sql: str) -> str:
        """Return DuckDB's SQL. Raises `WireError` for a query that cannot be read."""
        text = _COLLATE.sub("", _OPERATOR.sub(r" \1 ", sql))
        text = _OIDS.sub("::int8[]", text)
        text = _KEYWORD_AS_NAME.sub(_as_name, text)
        try:
            root = sqlglot.parse_one(text, read="postgres")
        except (SqlglotError, RecursionError) as error:
            raise WireError(
                SqlState.SYNTAX, f"cannot read the query about the catalog: {error}"
            ) from None
        for select in root.find_all(exp.Select):
            select.set("expressions", [_named(item) for item in select.expressions])
        return self._rewritten(root).sql(dialect="duckdb")

    def _rewritten(self, root: exp.Expr) -> exp.Expr:
        """Rewrite every node, those inside first."""
        for node in reversed(list(root.walk(bfs=True))):
            new = self._node(node)
            if new is node:
                continue
            if node is root:
                return new
            node.replace(new)
        return root

    def _node(self, node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Table):
            return self._table(node)
        if isinstance(node, exp.Cast):
            return _cast(node)
        if isinstance(node, exp.Dot):
            return _without_schema(node)
        if isinstance(node, exp.Column) and node.name.lower() == "tableoid":
            return exp.cast(_literal(_oid_of_table(node)), "UINTEGER", dialect="duckdb")
        if isinstance(node, exp.Column) and _is_of_catalog(node.args.get("db")):
            return exp.column(node.this.copy(), table=node.args["table"].copy())
        word = next((w for kind, w in _SESSION_WORDS.items() if isinstance(node, kind)), None)
        if word is not None:
            return _literal(self._values[word])
        if isinstance(node, exp.Bracket) and node.this.name.lower() in ZERO_BASED:
            return _counted_from_one(node)
        if isinstance(node, exp.CurrentSchemas):
            return _SCHEMAS_LOOKED_IN.copy()
        if isinstance(node, exp.ByteString):  # E'...'
            return _literal(node.name.encode().decode("unicode_escape"))
        if isinstance(node, (exp.RegexpLike, exp.RegexpILike)):
            return _regexp(node)
        if (
            isinstance(node, exp.Column)
            and not node.table
            and node.name.lower() in _SESSION_FUNCTIONS
        ):
            if node.name.lower() in ("current_catalog", "current_role", "user", "current_schema"):
                return _literal(self._values[_SESSION_FUNCTIONS[node.name.lower()]])
            return node
        if isinstance(node, (exp.Anonymous, exp.Func)):
            return self._function(node)
        return node

    def _table(self, node: exp.Table) -> exp.Expr:
        function = node.this
        if isinstance(function, exp.Anonymous) and function.name.lower() in _WITH_ROWS:
            function.set("this", function.name.lower() + "_rows")
        if node.db.lower() == "information_schema":
            if not node.alias:
                node.set("alias", exp.TableAlias(this=node.this.copy()))
            node.set("this", exp.to_identifier(INFORMATION_PREFIX + node.name.lower()))
        if node.db.lower() in SCHEMAS:
            node.set("db", None)
        node.set("catalog", None)
        return node

    def _function(self, node: exp.Expr) -> exp.Expr:
        name = _function_name(node)
        if name in _SESSION_FUNCTIONS:
            return _literal(self._values[_SESSION_FUNCTIONS[name]])
        if name == "current_setting":
            asked = node.expressions[0] if isinstance(node, exp.Anonymous) else node.this
            return _literal(self._setting(asked.name))
        if name == "set_config":
            value: exp.Expr = node.expressions[1].copy()
            return value
        if name in _OF_THE_CALLER:
            caller = _literal(self._values["secret"])
            return exp.Anonymous(this=name, expressions=[*node.expressions, caller])
        if name in _RENAMED:
            return exp.Anonymous(this=_RENAMED[name], expressions=list(node.expressions))
        if name == "_pg_expandarray":
            return _expanded(node.expressions[0])
        return node


def _as_name(found: re.Match[str]) -> str:
    return f'{found["before"]}"{found["word"]}"' if found["word"] else found[0]


def _function_name(function: exp.Expr) -> str:
    name = function.name if isinstance(function, exp.Anonymous) else type(function).sql_name()  # type: ignore[attr-defined]
    return str(name).lower()


def _named(item: exp.Expr) -> exp.Expr:
    """Name a column as PostgreSQL does: after its function, or after what is cast."""
    function = item
    while isinstance(function, (exp.Dot, exp.Cast)):
        function = function.expression if isinstance(function, exp.Dot) else function.this
    if isinstance(function, exp.Anonymous):
        name = function.name
    elif type(function) in _SESSION_WORDS:
        name = _function_name(function).replace("current_version", "version")
    elif isinstance(function, exp.AggFunc):
        name = _function_name(function)
    else:
        return item
    return exp.alias_(item.copy(), name.lower(), quoted=True)


def _expanded(array: exp.Expr) -> exp.Expr:
    """Return a row for each element: x is the element, n its number."""
    return sqlglot.parse_one(
        f"unnest(list_transform({array.sql(dialect='duckdb')}, lambda element_, number_: "
        "{'x': element_, 'n': number_}))",
        read="duckdb",
    )


def _counted_from_one(node: exp.Bracket) -> exp.Expr:
    [index] = node.expressions
    moved = exp.paren(exp.Add(this=exp.paren(index.copy()), expression=exp.Literal.number(1)))
    return exp.Anonymous(this="list_extract", expressions=[node.this.copy(), moved])


def _oid_of_table(column: exp.Column) -> int:
    """Return the oid of the table that a column `tableoid` belongs to."""
    select = column.parent_select
    tables = () if select is None else select.find_all(exp.Table)
    name = next((t.name for t in tables if column.table in ("", t.alias_or_name)), "")
    return _TABLE_OIDS.get(name.lower(), 0)


def _is_of_catalog(schema: exp.Expr | None) -> bool:
    return schema is not None and schema.name.lower() in SCHEMAS


def _without_schema(node: exp.Dot) -> exp.Expr:
    """pg_catalog.f(x) is f(x): the catalog's own schema is the one that is looked in."""
    if node.this.name.lower() in SCHEMAS and not isinstance(node.this, exp.Dot):
        inside: exp.Expr = node.expression.copy()
        return inside
    return node


def _literal(value: str | int | None) -> exp.Expr:
    if value is None:
        return exp.Null()
    return exp.Literal.number(value) if isinstance(value, int) else exp.Literal.string(value)


def _regexp(node: exp.Expr) -> exp.Expr:
    """PostgreSQL's ~ finds a pattern anywhere, as DuckDB's function does."""
    flags = [exp.Literal.string("i")] if isinstance(node, exp.RegexpILike) else []
    return exp.Anonymous(
        this="regexp_matches", expressions=[node.this.copy(), node.expression.copy(), *flags]
    )


def _cast(node: exp.Cast) -> exp.Expr:
    name = node.to.sql(dialect="postgres").lower().replace('"', "").replace("pg_catalog.", "")
    operand = node.this
    if name in REG_TYPES:
        kind = name.removesuffix("edure")
        is_text = isinstance(operand, exp.Literal) and operand.is_string
        is_text = is_text or isinstance(operand, (exp.Cast, exp.DPipe))
        if kind == "regtype" and not is_text:
            return exp.Anonymous(this="format_type", expressions=[operand.copy(), exp.Null()])
        suffix = "oid" if is_text and kind != "regproc" else "name"
        return exp.Anonymous(this=f"{kind}_{suffix}", expressions=[operand.copy()])
    if name.endswith("[]") and isinstance(operand, exp.Literal) and operand.name.startswith("{"):
        words = [word.strip('"') for word in operand.name[1:-1].split(",") if word]
        node = exp.cast(exp.Array(expressions=[_literal(w) for w in words]), "VARCHAR[]")
        operand = node.this
    if name in ("oid", "xid"):
        inner = operand
        if isinstance(inner, exp.Anonymous) and inner.name.endswith("_oid"):
            return inner.copy()
        return exp.cast(operand.copy(), "UINTEGER", dialect="duckdb")
    if name in ("oid[]", "_oid"):
        return exp.cast(operand.copy(), "UINTEGER[]", dialect="duckdb")
    if name in ("varchar", "text") and operand.name.lower() in ZERO_BASED:
        return exp.Anonymous(this="array_to_string", expressions=[operand.copy(), _literal(" ")])
    if name in ("name", "char", "bpchar", "aclitem", "unknown", "cstring", "pg_node_tree",
                "information_schema.sql_identifier", "information_schema.character_data",
                "information_schema.cardinal_number", "information_schema.yes_or_no", "citext"):  # fmt: skip
        return exp.cast(operand.copy(), "VARCHAR", dialect="duckdb")
    if name in ("name[]", "_name", "char[]", "aclitem[]", "information_schema.sql_identifier[]"):
        return exp.cast(operand.copy(), "VARCHAR[]", dialect="duckdb")
    if name == "int2vector":
        return exp.cast(operand.copy(), "SMALLINT[]", dialect="duckdb")
    return node
