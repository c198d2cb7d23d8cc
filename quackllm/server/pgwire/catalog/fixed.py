"""Tables of the catalog that do not depend on what is in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from quackllm.optimizer.sql import literal
from quackllm.server.pgwire.types import ARRAY_OIDS, Form, WireType

if TYPE_CHECKING:
    from quackllm.server.pgwire.variables import Variables

FIRST_DATABASE = 16384
"""The oid of the first database that is served; the others follow."""

ROLE = 10
"""The oid of the session's user."""

# oid, name, length, category, display
_BASE_TYPES = (
    (16, "bool", 1, "B", "boolean"), (17, "bytea", -1, "U", "bytea"), (18, "char", 1, "Z", '"char"'),
    (19, "name", 64, "S", "name"), (20, "int8", 8, "N", "bigint"), (21, "int2", 2, "N", "smallint"),
    (23, "int4", 4, "N", "integer"), (24, "regproc", 4, "N", "regproc"), (25, "text", -1, "S", "text"),
    (26, "oid", 4, "N", "oid"), (114, "json", -1, "U", "json"), (700, "float4", 4, "N", "real"),
    (701, "float8", 8, "N", "double precision"), (705, "unknown", -2, "X", "unknown"),
    (1042, "bpchar", -1, "S", "character"), (1043, "varchar", -1, "S", "character varying"),
    (1082, "date", 4, "D", "date"), (1083, "time", 8, "D", "time without time zone"),
    (1114, "timestamp", 8, "D", "timestamp without time zone"),
    (1184, "timestamptz", 8, "D", "timestamp with time zone"), (1186, "interval", 16, "T", "interval"),
    (1266, "timetz", 12, "D", "time with time zone"), (1562, "varbit", -1, "V", "bit varying"),
    (1700, "numeric", -1, "N", "numeric"), (2205, "regclass", 4, "N", "regclass"),
    (2206, "regtype", 4, "N", "regtype"), (2249, "record", -1, "P", "record"),
    (2278, "void", 4, "P", "void"), (2950, "uuid", 16, "U", "uuid"), (3802, "jsonb", -1, "U", "jsonb"),
)  # fmt: skip

_DISPLAY = {oid: display for oid, _, _, _, display in _BASE_TYPES}


LETTERS = "CREATE TYPE letter AS ENUM ({})".format(
    ", ".join(
        f"'{c}'" for c in ["", " ", ",", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    )
)
"""PostgreSQL's "char", which drivers tell from text: a type of its own that a column keeps
through any query."""

_LETTER_COLUMNS = {
    "pg_am": ("amtype",),
    "pg_attribute": ("attalign", "attstorage", "attcompression", "attidentity", "attgenerated"),
    "pg_class": ("relkind", "relpersistence", "relreplident"),
    "pg_collation": ("collprovider",),
    "pg_constraint": ("contype", "confupdtype", "confdeltype", "confmatchtype"),
    "pg_database": ("datlocprovider",),
    "pg_proc": ("prokind", "provolatile", "proparallel"),
    "pg_type": ("typtype", "typcategory", "typdelim", "typalign", "typstorage"),
}


def with_letters(table: str, sql: str) -> str:
    """Give the columns of a table that are of type "char" that type."""
    names = _LETTER_COLUMNS.get(table)
    if names is None:
        return sql
    replaced = ", ".join(f"CAST({name} AS letter) AS {name}" for name in names)
    return f"SELECT * REPLACE ({replaced}) FROM ({sql})"


def display_name(kind: WireType) -> str:
    """Return the name that format_type has for a type, without its modifier."""
    if kind.form is Form.ARRAY and kind.element is not None:
        return display_name(kind.element) + "[]"
    return _DISPLAY.get(kind.oid, kind.name)


def type_rows(kinds: Sequence[str], found: Sequence[WireType]) -> pa.Table:
    """Make the table from DuckDB's types, as they are written, to those of the wire."""
    return pa.table(
        {
            "data_type": pa.array(kinds, pa.string()),
            "oid": pa.array([kind.oid for kind in found], pa.uint32()),
            "modifier": pa.array([kind.modifier for kind in found], pa.int32()),
            "size": pa.array([kind.size for kind in found], pa.int16()),
            "display": pa.array([display_name(kind) for kind in found], pa.string()),
            "udt": pa.array([kind.name for kind in found], pa.string()),
        }
    )


def roles_table(user: str) -> str:
    """Return the query of pg_roles, in the session of a user."""
    return f"""
        SELECT CAST(oid AS UINTEGER) AS oid, rolname, true AS rolsuper, true AS rolinherit,
               true AS rolcreaterole, true AS rolcreatedb, true AS rolcanlogin, false AS rolreplication,
               false AS rolbypassrls, -1 AS rolconnlimit, '********' AS rolpassword,
               CAST(NULL AS TIMESTAMPTZ) AS rolvaliduntil, CAST(NULL AS VARCHAR[]) AS rolconfig
        FROM (VALUES ({ROLE}, {literal(user)}), (9, 'quackllm')) t(oid, rolname)"""


def settings_table(variables: Variables) -> str:
    """Return the query of pg_settings, with the values of this moment."""
    settings = ", ".join(f"({literal(k)}, {literal(v)})" for k, v in variables.rows())
    return f"""
        SELECT name, setting, CAST(NULL AS VARCHAR) AS unit, 'quackllm' AS category, '' AS short_desc,
               '' AS extra_desc, 'user' AS context, 'string' AS vartype, 'default' AS source,
               CAST(NULL AS VARCHAR) AS min_val, CAST(NULL AS VARCHAR) AS max_val,
               CAST(NULL AS VARCHAR[]) AS enumvals, setting AS boot_val, setting AS reset_val,
               false AS pending_restart
        FROM (VALUES {settings}) t(name, setting)"""


def fixed_tables(databases: Sequence[str]) -> dict[str, str]:
    """Return name → query of each table; databases are the names of those served."""
    served = ", ".join(
        f"({FIRST_DATABASE + i}, {literal(name)})" for i, name in enumerate(databases)
    )
    return {
        "pg_type": _types(),
        "pg_database": f"""
            SELECT CAST(oid AS UINTEGER) AS oid, datname, CAST(10 AS UINTEGER) AS datdba, 6 AS encoding,
                   'c' AS datlocprovider, false AS datistemplate, true AS datallowconn, -1 AS datconnlimit,
                   CAST(0 AS UINTEGER) AS datlastsysoid, CAST(1663 AS UINTEGER) AS dattablespace,
                   'C' AS datcollate, 'C' AS datctype, CAST(NULL AS VARCHAR) AS daticulocale,
                   CAST(NULL AS VARCHAR) AS datcollversion, CAST(NULL AS VARCHAR[]) AS datacl
            FROM (VALUES {served}) t(oid, datname)""",
        "pg_authid": "SELECT * FROM pg_roles",
        "pg_user": """
            SELECT rolname AS usename, oid AS usesysid, rolcreatedb AS usecreatedb, rolsuper AS usesuper,
                   rolreplication AS userepl, rolbypassrls AS usebypassrls, rolpassword AS passwd,
                   rolvaliduntil AS valuntil, rolconfig AS useconfig FROM pg_roles""",
        "pg_group": "SELECT '' AS groname, CAST(0 AS UINTEGER) AS grosysid, CAST([] AS UINTEGER[]) AS grolist LIMIT 0",
        "pg_am": "SELECT CAST(oid AS UINTEGER) AS oid, amname, amtype, CAST(0 AS UINTEGER) AS amhandler FROM (VALUES (2, 'heap', 't'), (403, 'art', 'i')) t(oid, amname, amtype)",
        "pg_language": "SELECT CAST(14 AS UINTEGER) AS oid, 'sql' AS lanname, CAST(10 AS UINTEGER) AS lanowner, false AS lanispl, true AS lanpltrusted, CAST(0 AS UINTEGER) AS lanplcallfoid, CAST(0 AS UINTEGER) AS laninline, CAST(0 AS UINTEGER) AS lanvalidator, CAST(NULL AS VARCHAR[]) AS lanacl",
        "pg_collation": "SELECT CAST(100 AS UINTEGER) AS oid, 'default' AS collname, CAST(11 AS UINTEGER) AS collnamespace, CAST(10 AS UINTEGER) AS collowner, 'd' AS collprovider, true AS collisdeterministic, -1 AS collencoding, 'C' AS collcollate, 'C' AS collctype, CAST(NULL AS VARCHAR) AS colliculocale, CAST(NULL AS VARCHAR) AS collversion",
        "pg_tablespace": "SELECT CAST(1663 AS UINTEGER) AS oid, 'pg_default' AS spcname, CAST(10 AS UINTEGER) AS spcowner, CAST(NULL AS VARCHAR[]) AS spcacl, CAST(NULL AS VARCHAR[]) AS spcoptions",
        "pg_extension": "SELECT CAST(13500 AS UINTEGER) AS oid, 'plpgsql' AS extname, CAST(10 AS UINTEGER) AS extowner, CAST(11 AS UINTEGER) AS extnamespace, false AS extrelocatable, '1.0' AS extversion LIMIT 0",
        "pg_enum": "SELECT CAST(0 AS UINTEGER) AS oid, CAST(0 AS UINTEGER) AS enumtypid, CAST(1 AS FLOAT) AS enumsortorder, '' AS enumlabel LIMIT 0",
        "pg_timezone_names": "SELECT 'UTC' AS name, 'UTC' AS abbrev, INTERVAL 0 SECONDS AS utc_offset, false AS is_dst",
        "pg_stat_database": "SELECT oid AS datid, datname, 0 AS numbackends FROM pg_database",
    }  # fmt: skip


def _types() -> str:
    rows = []
    for oid, name, size, category, display in _BASE_TYPES:
        array = ARRAY_OIDS.get(oid, 0)
        kind = "p" if category == "P" else "b"
        rows.append((oid, name, size, kind, category, 0, array, display))
        if array:
            rows.append((array, f"_{name}", -1, "b", "A", oid, 0, f"{display}[]"))
    values = ", ".join(
        f"({oid}, {literal(name)}, {size}, '{kind}', '{category}', {element}, {array}, {literal(display)})"
        for oid, name, size, kind, category, element, array, display in rows
    )
    return f"""
        SELECT CAST(oid AS UINTEGER) AS oid, typname, CAST(11 AS UINTEGER) AS typnamespace,
               CAST(10 AS UINTEGER) AS typowner, CAST(typlen AS SMALLINT) AS typlen,
               typlen IN (1, 2, 4, 8) AS typbyval, typtype, typcategory,
               typname IN ('bool', 'text', 'float8', 'timestamptz') AS typispreferred,
               true AS typisdefined, ',' AS typdelim, CAST(0 AS UINTEGER) AS typrelid,
               CAST(0 AS UINTEGER) AS typsubscript, CAST(typelem AS UINTEGER) AS typelem,
               CAST(typarray AS UINTEGER) AS typarray,
               CASE WHEN typcategory = 'A' THEN 'array_in' ELSE typname || 'in' END AS typinput,
               CASE WHEN typcategory = 'A' THEN 'array_out' ELSE typname || 'out' END AS typoutput,
               CASE WHEN typcategory = 'A' THEN 'array_recv' ELSE typname || 'recv' END AS typreceive,
               CASE WHEN typcategory = 'A' THEN 'array_send' ELSE typname || 'send' END AS typsend,
               '-' AS typmodin, '-' AS typmodout, '-' AS typanalyze, 'i' AS typalign, 'p' AS typstorage,
               false AS typnotnull, CAST(0 AS UINTEGER) AS typbasetype, CAST(-1 AS INTEGER) AS typtypmod,
               CAST(0 AS INTEGER) AS typndims,
               CAST(CASE WHEN typcategory = 'S' THEN 100 ELSE 0 END AS UINTEGER) AS typcollation,
               CAST(NULL AS VARCHAR) AS typdefaultbin, CAST(NULL AS VARCHAR) AS typdefault,
               CAST(NULL AS VARCHAR[]) AS typacl, typdisplay
        FROM (VALUES {values})
             t(oid, typname, typlen, typtype, typcategory, typelem, typarray, typdisplay)"""
