"""What BI tools, drivers and editors ask before a person has typed anything (promise 1).

The statements are written after what those tools do, in their style: aliases that are keywords,
casts to reg types, `ANY`, lateral joins, functions that describe objects. None calls a model:
the database has a view with an LLM column.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from quackllm.testing import FakeServer
from tests.server.pgwire.running import TABLES, Running, running

VIEW = "CREATE VIEW judged AS SELECT id, LLM_CLASSIFY(synopsis, ['fun', 'sad']) AS mood FROM movies"


@pytest.fixture(scope="module")
def models() -> Iterator[FakeServer]:
    """The model server, which sees every request that is made."""
    with FakeServer(flavor="vllm") as server:
        yield server


@pytest.fixture(scope="module")
def served(models: FakeServer) -> Iterator[Running]:
    with running(tables=f"{TABLES};{VIEW}", base_url=models.base_url, model="fake-model") as server:
        yield server


def asked(models: FakeServer) -> int:
    """Return the number of requests for answers; asking a server who it is is none."""
    return sum(one.method == "POST" for one in models.received)


Queries = dict[str, tuple[str, list[tuple[Any, ...]] | None]]
"""Name → SQL and the rows that it gives; None where all that matters is that there are some."""

ORDINARY = "n.nspname NOT IN ('pg_catalog', 'information_schema')"

POWER_BI: Queries = {
    "character sets": (
        "select character_set_name from INFORMATION_SCHEMA.character_sets",
        [("UTF8",)],
    ),
    "tables": (
        "select TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE from INFORMATION_SCHEMA.tables "
        "where TABLE_SCHEMA not in ('information_schema', 'pg_catalog') order by TABLE_SCHEMA, TABLE_NAME",
        [("main", "cheap", "VIEW"), ("main", "judged", "VIEW"),
         ("main", "movies", "BASE TABLE"), ("main", "reviews", "BASE TABLE")],
    ),
    "columns": (
        "select COLUMN_NAME, ORDINAL_POSITION, IS_NULLABLE, case when (data_type like '%unsigned%') "
        "then DATA_TYPE || ' unsigned' else DATA_TYPE end as DATA_TYPE from INFORMATION_SCHEMA.columns "
        "where TABLE_SCHEMA = 'main' and TABLE_NAME = 'judged' order by TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
        [("id", 1, "YES", "integer"), ("mood", 2, "YES", "text")],
    ),
    "keys to other tables": (
        "select pkcol.COLUMN_NAME as PK_COLUMN_NAME, fkcol.TABLE_SCHEMA AS FK_TABLE_SCHEMA, "
        "fkcol.TABLE_NAME AS FK_TABLE_NAME, fkcol.COLUMN_NAME as FK_COLUMN_NAME, "
        "fkcol.ORDINAL_POSITION as ORDINAL from (select distinct constraint_catalog, constraint_schema, "
        "unique_constraint_schema, constraint_name, unique_constraint_name "
        "from INFORMATION_SCHEMA.REFERENTIAL_CONSTRAINTS) fkcon inner join "
        "INFORMATION_SCHEMA.KEY_COLUMN_USAGE fkcol on fkcon.CONSTRAINT_SCHEMA = fkcol.CONSTRAINT_SCHEMA "
        "and fkcon.CONSTRAINT_NAME = fkcol.CONSTRAINT_NAME inner join INFORMATION_SCHEMA.KEY_COLUMN_USAGE pkcol "
        "on fkcon.UNIQUE_CONSTRAINT_SCHEMA = pkcol.CONSTRAINT_SCHEMA and fkcon.UNIQUE_CONSTRAINT_NAME = "
        "pkcol.CONSTRAINT_NAME where pkcol.TABLE_NAME = 'movies' and pkcol.ORDINAL_POSITION = fkcol.ORDINAL_POSITION",
        [("id", "main", "reviews", "movie_id", 1)],
    ),
    "indexes": (
        "select i.CONSTRAINT_SCHEMA || '_' || i.CONSTRAINT_NAME as INDEX_NAME, ii.COLUMN_NAME, "
        "ii.ORDINAL_POSITION, case when i.CONSTRAINT_TYPE = 'PRIMARY KEY' then 'Y' else 'N' end as PRIMARY_KEY "
        "from INFORMATION_SCHEMA.table_constraints i inner join INFORMATION_SCHEMA.key_column_usage ii "
        "on i.CONSTRAINT_SCHEMA = ii.CONSTRAINT_SCHEMA and i.CONSTRAINT_NAME = ii.CONSTRAINT_NAME "
        "and i.TABLE_NAME = ii.TABLE_NAME where i.TABLE_NAME = 'movies' and i.CONSTRAINT_TYPE in "
        "('PRIMARY KEY', 'UNIQUE') order by i.CONSTRAINT_NAME",
        [("main_movies_id_pkey", "id", 1, "Y")],
    ),
    "a preview": (
        'select "$Table"."id" as "id", "$Table"."mood" as "mood" from "main"."judged" "$Table" limit 0',
        [],
    ),
}  # fmt: skip

NPGSQL: Queries = {
    "types": (
        "SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM ("
        "SELECT typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind, "
        "elemtyp.oid AS elemtypoid, elemtyp.typname AS elemtypname, elemcls.relkind AS elemrelkind, "
        "CASE WHEN elemproc.proname = 'array_recv' THEN 'a' ELSE elemtyp.typtype END AS elemtyptype "
        "FROM (SELECT typ.oid, typnamespace, typname, typrelid, typnotnull, relkind, typelem AS elemoid, "
        "CASE WHEN proc.proname = 'array_recv' THEN 'a' ELSE typ.typtype END AS typtype, "
        "CASE WHEN proc.proname = 'array_recv' THEN typ.typelem WHEN typ.typtype = 'r' THEN rngsubtype "
        "WHEN typ.typtype = 'd' THEN typ.typbasetype END AS elemtypoid FROM pg_type AS typ "
        "LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid) LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive "
        "LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid)) AS typ LEFT JOIN pg_type AS elemtyp "
        "ON elemtyp.oid = elemtypoid LEFT JOIN pg_class AS elemcls ON (elemcls.oid = elemtyp.typrelid) "
        "LEFT JOIN pg_proc AS elemproc ON elemproc.oid = elemtyp.typreceive) AS t JOIN pg_namespace AS ns "
        "ON (ns.oid = typnamespace) WHERE typtype IN ('b', 'r', 'm', 'e', 'd') OR (typtype = 'c' AND relkind='c') "
        "OR (typtype = 'p' AND typname IN ('record', 'void', 'unknown')) OR (typtype = 'a' AND "
        "(elemtyptype IN ('b', 'r', 'm', 'e', 'd'))) ORDER BY CASE WHEN typtype IN ('b', 'e', 'p') THEN 0 ELSE 1 END",
        None,
    ),
    "composites": (
        "SELECT typ.oid, att.attname, att.atttypid FROM pg_type AS typ JOIN pg_namespace AS ns "
        "ON (ns.oid = typ.typnamespace) JOIN pg_class AS cls ON (cls.oid = typ.typrelid) JOIN pg_attribute AS att "
        "ON (att.attrelid = typ.typrelid) WHERE (typ.typtype = 'c' AND cls.relkind='c') AND attnum > 0 "
        "AND NOT attisdropped ORDER BY typ.oid, att.attnum",
        [],
    ),
    "enums": (
        "SELECT pg_type.oid, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid=enumtypid ORDER BY oid, enumsortorder",
        [],
    ),
}  # fmt: skip

METABASE: Queries = {
    "time zone": ("show timezone", [("UTC",)]),
    "isolation": ("SHOW TRANSACTION ISOLATION LEVEL", None),
    "privileges": (
        "with table_privileges as (select NULL as role, t.schemaname as schema, t.objectname as table, "
        "pg_catalog.has_any_column_privilege(current_user, '\"' || t.schemaname || '\".\"' || t.objectname || '\"', 'update') as update, "
        "pg_catalog.has_any_column_privilege(current_user, '\"' || t.schemaname || '\".\"' || t.objectname || '\"', 'select') as select, "
        "pg_catalog.has_table_privilege(current_user, '\"' || t.schemaname || '\".\"' || t.objectname || '\"', 'delete') as delete "
        "from (select schemaname, tablename as objectname from pg_catalog.pg_tables union "
        "select schemaname, viewname as objectname from pg_catalog.pg_views union "
        "select schemaname, matviewname as objectname from pg_catalog.pg_matviews) t "
        "where t.schemaname !~ '^pg_' and t.schemaname <> 'information_schema' "
        "and pg_catalog.has_schema_privilege(current_user, t.schemaname, 'usage')) "
        "select t.schema, t.table, t.select from table_privileges t order by 2",
        [("main", "cheap", True), ("main", "judged", True), ("main", "movies", True), ("main", "reviews", True)],
    ),
    "tables with estimates": (
        "SELECT n.nspname AS schema, c.relname AS name, CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW' "
        "ELSE NULL END AS type, d.description AS description, NULLIF(stat.n_live_tup, 0) AS estimated_row_count "
        "FROM pg_catalog.pg_class AS c INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid "
        "LEFT JOIN pg_catalog.pg_description AS d ON ((c.oid = d.objoid) AND (d.objsubid = 0) "
        "AND (d.classoid = 'pg_class'::regclass)) LEFT JOIN pg_stat_user_tables AS stat "
        "ON ((n.nspname = stat.schemaname) AND (c.relname = stat.relname)) WHERE c.relnamespace = n.oid "
        "AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND (c.relkind IN ('r', 'p', 'v', 'f', 'm')) "
        "AND (n.nspname IN ('main')) ORDER BY type ASC, schema ASC, name ASC",
        [("main", "movies", "TABLE", "films", 20), ("main", "reviews", "TABLE", None, 60),
         ("main", "cheap", "VIEW", None, None), ("main", "judged", "VIEW", None, None)],
    ),
    "columns": (
        'SELECT c.column_name AS name, c.udt_name AS "database-type", c.ordinal_position - 1 AS "database-position", '
        'c.table_schema AS "table-schema", c.table_name AS "table-name", pk.column_name IS NOT NULL AS "pk?", '
        "col_description(CAST(CAST(format('%I.%I', CAST(c.table_schema AS TEXT), CAST(c.table_name AS TEXT)) AS regclass) AS oid), "
        'c.ordinal_position) AS "field-comment" FROM information_schema.columns AS c LEFT JOIN '
        "(SELECT tc.table_schema, tc.table_name, kc.column_name FROM information_schema.table_constraints AS tc "
        "INNER JOIN information_schema.key_column_usage AS kc ON (tc.constraint_name = kc.constraint_name) "
        "AND (tc.table_schema = kc.table_schema) AND (tc.table_name = kc.table_name) WHERE tc.constraint_type = 'PRIMARY KEY') AS pk "
        "ON (c.table_schema = pk.table_schema) AND (c.table_name = pk.table_name) AND (c.column_name = pk.column_name) "
        "WHERE c.table_schema !~ '^information_schema|catalog_history|pg_' AND c.table_name = 'reviews' ORDER BY 3 LIMIT 2",
        [("id", "int4", 0, "main", "reviews", True, None), ("movie_id", "int4", 1, "main", "reviews", False, None)],
    ),
    "foreign keys": (
        'SELECT fk_ns.nspname AS "fk-table-schema", fk_table.relname AS "fk-table-name", fk_column.attname AS "fk-column-name", '
        'pk_table.relname AS "pk-table-name", pk_column.attname AS "pk-column-name" FROM pg_constraint AS c '
        "INNER JOIN pg_class AS fk_table ON c.conrelid = fk_table.oid INNER JOIN pg_namespace AS fk_ns ON c.connamespace = fk_ns.oid "
        "INNER JOIN pg_attribute AS fk_column ON c.conrelid = fk_column.attrelid INNER JOIN pg_class AS pk_table ON c.confrelid = pk_table.oid "
        "INNER JOIN pg_namespace AS pk_ns ON pk_table.relnamespace = pk_ns.oid INNER JOIN pg_attribute AS pk_column ON c.confrelid = pk_column.attrelid "
        "WHERE fk_ns.nspname !~ '^information_schema|catalog_history|pg_' AND (c.contype = CAST('f' AS char)) "
        "AND (fk_column.attnum = ANY(c.conkey)) AND (pk_column.attnum = ANY(c.confkey)) ORDER BY fk_ns.nspname, fk_table.relname",
        [("main", "reviews", "movie_id", "movies", "id")],
    ),
    "enums": (
        "SELECT nspname, typname, enumlabel FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace",
        [],
    ),
    "a sample": ("SELECT * FROM (SELECT mood FROM main.judged) t LIMIT 0", []),
}  # fmt: skip

DBEAVER: Queries = {
    "session": ("SELECT current_schema(),session_user", [("main", "tester")]),
    "search path": ("SHOW search_path", [("main",)]),
    "databases": (
        "SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate ORDER BY db.datname",
        None,
    ),
    "settings": ("select * from pg_catalog.pg_settings where name='standard_conforming_strings'", None),
    "schemas": (
        "SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d "
        "ON d.objoid=n.oid AND d.objsubid=0 AND d.classoid='pg_namespace'::regclass ORDER BY nspname",
        None,
    ),
    "types": (
        "SELECT t.oid,t.*,c.relkind,format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name, d.description "
        "FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid=t.typelem "
        "LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid=t.typrelid LEFT OUTER JOIN pg_catalog.pg_description d "
        "ON t.oid=d.objoid WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') "
        "AND (et.typcategory IS NULL OR et.typcategory <> 'C')",
        None,
    ),
    "relations": (
        "SELECT c.oid,c.relname,d.description,pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_expr,  "
        "pg_catalog.pg_get_partkeydef(c.oid) as partition_key FROM pg_catalog.pg_class c "
        "LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_class'::regclass "
        "WHERE c.relnamespace=(SELECT oid FROM pg_namespace WHERE nspname = 'main') AND c.relkind not in ('i','I','c') "
        "ORDER BY c.relname",
        None,
    ),
    "columns": (
        "SELECT c.relname,a.attname,pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) as def_value,dsc.description,dep.objid "
        "FROM pg_catalog.pg_attribute a INNER JOIN pg_catalog.pg_class c ON (a.attrelid=c.oid) "
        "LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON (a.attrelid=ad.adrelid AND a.attnum = ad.adnum) "
        "LEFT OUTER JOIN pg_catalog.pg_description dsc ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid) "
        "LEFT OUTER JOIN pg_depend dep on dep.refobjid = a.attrelid AND dep.deptype = 'i' and dep.refobjsubid = a.attnum "
        "and dep.classid = dep.refclassid WHERE NOT a.attisdropped AND c.relkind not in ('i','I','c') "
        "AND c.relname = 'movies' ORDER BY a.attnum LIMIT 1",
        [("movies", "id", None, None, None)],
    ),
    "constraints": (
        "SELECT c.conname,t.relname as tabrelname,rt.relnamespace IS NULL as no_reference,d.description, "
        "case when c.contype='c' then substring(pg_get_constraintdef(c.oid) from 7) else null end consrc_copy "
        "FROM pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t ON t.oid=c.conrelid "
        "LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid=c.confrelid LEFT OUTER JOIN pg_catalog.pg_description d "
        "ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_constraint'::regclass WHERE t.relname = 'movies' ORDER BY c.oid",
        None,
    ),
    "indexes": (
        "SELECT i.*,i.indkey as keys,c.relname,c.relnamespace,c.relam,c.reltablespace,tc.relname as tabrelname,dsc.description,"
        "pg_catalog.pg_get_expr(i.indpred, i.indrelid) as pred_expr,pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) as expr,"
        "pg_catalog.pg_relation_size(i.indexrelid) as index_rel_size FROM pg_catalog.pg_index i "
        "INNER JOIN pg_catalog.pg_class c ON c.oid=i.indexrelid INNER JOIN pg_catalog.pg_class tc ON tc.oid=i.indrelid "
        "LEFT OUTER JOIN pg_catalog.pg_description dsc ON i.indexrelid=dsc.objoid WHERE tc.relname = 'reviews' ORDER BY tabrelname, c.relname",
        None,
    ),
    "functions": (
        "SELECT p.oid as poid,p.*, pg_catalog.pg_get_expr(p.proargdefaults, 0) as arg_defaults,d.description "
        "FROM pg_catalog.pg_proc p LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=p.oid "
        "WHERE p.pronamespace=2200 ORDER BY p.proname",
        [],
    ),
    "view text": (
        "SELECT pg_catalog.pg_get_viewdef(c.oid, true) LIKE '%llm_classify%' OR pg_catalog.pg_get_viewdef(c.oid, true) "
        "LIKE '%LLM_CLASSIFY%' FROM pg_catalog.pg_class c WHERE c.relname = 'judged'",
        [(True,)],
    ),
    "locks": ("SELECT sa.*, sa.query as q FROM pg_catalog.pg_stat_activity sa WHERE pid = pg_backend_pid()", None),
    "sizes": (
        "select c.oid,pg_catalog.pg_total_relation_size(c.oid) as total_rel_size,pg_catalog.pg_relation_size(c.oid) as rel_size "
        "FROM pg_class c WHERE c.relnamespace = 2200",
        [],
    ),
    "keywords": ("select string_agg(word, ',') from pg_catalog.pg_get_keywords() where word <> ALL ('{a,abs,absolute}'::text[])", None),
}  # fmt: skip

TABLEAU: Queries = {
    "version": ("SELECT version()", None),
    "a probe": ('SELECT 1 AS "COL"', [(1,)]),
    "tables, by its driver": (
        "select NULL, n.nspname, c.relname, c.relkind from pg_catalog.pg_class c, pg_catalog.pg_namespace n "
        f"where c.relkind in ('r', 'v', 'm', 'f', 'p') and {ORDINARY} and n.nspname !~ '^pg_toast' "
        "and n.oid = c.relnamespace order by relkind, nspname, relname",
        [(None, "main", "movies", "r"), (None, "main", "reviews", "r"),
         (None, "main", "cheap", "v"), (None, "main", "judged", "v")],
    ),
    "columns, by its driver": (
        "select n.nspname, c.relname, a.attname, a.atttypid, t.typname, a.attnum, a.attlen, a.atttypmod, a.attnotnull, "
        "c.relhasrules, c.relkind, c.oid, pg_get_expr(d.adbin, d.adrelid), case t.typtype when 'd' then t.typbasetype else 0 end, "
        "t.typtypmod, 0 as relhasoids, '' as attidentity, c.relhassubclass from (((pg_catalog.pg_class c inner join "
        "pg_catalog.pg_namespace n on n.oid = c.relnamespace and c.relname like E'judged' and n.nspname like E'main') "
        "inner join pg_catalog.pg_attribute a on (not a.attisdropped) and a.attnum > 0 and a.attrelid = c.oid) "
        "inner join pg_catalog.pg_type t on t.oid = a.atttypid) left outer join pg_attrdef d on a.atthasdef "
        "and d.adrelid = a.attrelid and d.adnum = a.attnum order by n.nspname, c.relname, attnum",
        None,
    ),
    "its query of a chart": (
        'SELECT "judged"."id" AS "id", COUNT(1) AS "cnt:x:ok" FROM "main"."judged" "judged" WHERE 1 = 0 GROUP BY 1',
        [],
    ),
}  # fmt: skip

OTHERS: Queries = {
    "pgAdmin, the server": (
        "SELECT CASE WHEN usesuper THEN pg_catalog.pg_is_in_recovery() ELSE FALSE END as inrecovery, "
        "pg_catalog.pg_postmaster_start_time() IS NOT NULL AS started FROM pg_catalog.pg_user WHERE usename = current_user",
        [(False, True)],
    ),
    "pgAdmin, the database": (
        "SELECT db.oid as did, db.datname, db.datallowconn, pg_catalog.pg_encoding_to_char(db.encoding) AS serverencoding, "
        "pg_catalog.has_database_privilege(db.oid, 'CREATE') as cancreate, datistemplate FROM pg_catalog.pg_database db "
        "WHERE db.datname = current_database()",
        None,
    ),
    "Grafana, columns": (
        "SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\" FROM information_schema.columns "
        "WHERE quote_ident(table_name) = 'judged' ORDER BY ordinal_position",
        [("id", "integer"), ("mood", "text")],
    ),
    "Looker, schemas": (
        "SELECT table_schema AS schema, COUNT(*) AS tables FROM information_schema.tables GROUP BY table_schema HAVING table_schema = 'main'",
        [("main", 4)],
    ),
    "dbt, relations": (
        "select 'shop' as database, tablename as name, schemaname as schema, 'table' as type from pg_tables "
        "where schemaname ilike 'main' union all select 'shop' as database, viewname as name, schemaname as schema, "
        "'view' as type from pg_views where schemaname ilike 'main' order by name",
        [("shop", "cheap", "main", "view"), ("shop", "judged", "main", "view"),
         ("shop", "movies", "main", "table"), ("shop", "reviews", "main", "table")],
    ),
    "names qualified in full": (
        "SELECT information_schema.tables.table_name FROM information_schema.tables "
        "WHERE information_schema.tables.table_name = 'movies'",
        [("movies",)],
    ),
    "an index as SQLAlchemy 1.4 reads it": (
        "SELECT ix.indkey::varchar, ix.indoption::varchar FROM pg_index ix JOIN pg_class t ON t.oid = ix.indrelid "
        "JOIN pg_class i ON i.oid = ix.indexrelid WHERE i.relname = 'reviews_of_movie'",
        [("2", "0")],
    ),
}  # fmt: skip

TOOLS = {
    "Power BI": POWER_BI, "Npgsql": NPGSQL, "Metabase": METABASE, "DBeaver": DBEAVER,
    "Tableau": TABLEAU, "others": OTHERS,
}  # fmt: skip
QUERIES = [(sql, rows) for queries in TOOLS.values() for sql, rows in queries.values()]
NAMES = [f"{tool}: {name}" for tool, queries in TOOLS.items() for name in queries]


@pytest.mark.parametrize(("sql", "rows"), QUERIES, ids=NAMES)
def test_it_is_answered_without_a_call(
    models: FakeServer, pg: psycopg.Connection, sql: str, rows: list[Any] | None
) -> None:
    found = pg.execute(sql).fetchall()
    assert found == rows if rows is not None else found
    assert asked(models) == 0


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM judged LIMIT 0",
        "SELECT * FROM judged WHERE 1 = 0",
        "SELECT * FROM (SELECT * FROM judged) AS t WHERE false",
        "SELECT * FROM (SELECT mood, count(*) AS n FROM judged GROUP BY mood) AS t LIMIT 0",
        "EXPLAIN SELECT mood, count(*) FROM judged GROUP BY mood",
        "DESCRIBE judged",
        "CREATE OR REPLACE TEMP VIEW again AS SELECT * FROM judged",
        "PREPARE p AS SELECT * FROM judged",
    ],
)
def test_a_preview_of_a_schema_calls_nothing(
    models: FakeServer, pg: psycopg.Connection, sql: str
) -> None:
    pg.execute(sql)
    assert asked(models) == 0


def test_the_view_would_be_asked_about(models: FakeServer, pg: psycopg.Connection) -> None:
    """Else the tests above would pass of themselves. The last one, since it calls."""
    assert len(pg.execute("SELECT * FROM judged").fetchall()) == 20
    assert asked(models) > 0
