"""PostgreSQL's system functions as DuckDB's macros, over the tables of the catalog."""

from __future__ import annotations

PRIVILEGE_FUNCTIONS = (
    "has_any_column_privilege", "has_column_privilege", "has_database_privilege",
    "has_foreign_data_wrapper_privilege", "has_function_privilege", "has_language_privilege",
    "has_schema_privilege", "has_sequence_privilege", "has_server_privilege",
    "has_table_privilege", "has_tablespace_privilege", "has_type_privilege", "pg_has_role",
)  # fmt: skip

VISIBILITY_FUNCTIONS = (
    "pg_collation_is_visible", "pg_conversion_is_visible", "pg_function_is_visible",
    "pg_opclass_is_visible", "pg_operator_is_visible", "pg_opfamily_is_visible",
    "pg_statistics_obj_is_visible", "pg_ts_config_is_visible", "pg_ts_dict_is_visible",
    "pg_ts_parser_is_visible", "pg_ts_template_is_visible", "pg_type_is_visible",
)  # fmt: skip

_NULL_FUNCTIONS = {
    "inet_client_addr": (0,),
    "inet_client_port": (0,),
    "inet_server_addr": (0,),
    "inet_server_port": (0,),
    "pg_get_function_arg_default": (2,),
    "pg_get_function_sqlbody": (1,),
    "pg_get_partition_constraintdef": (1,),
    "pg_get_partkeydef": (1,),
    "pg_get_ruledef": (1, 2),
    "pg_get_serial_sequence": (2,),
    "pg_get_statisticsobjdef_columns": (1,),
    "pg_get_triggerdef": (1, 2),
    "pg_tablespace_location": (1,),
    "shobj_description": (2,),
}
"""Name → numbers of arguments of functions that know nothing here."""

_MACROS = {
    "format_type": "(o, m) AS CASE WHEN o IS NULL THEN NULL WHEN o = 1700 AND m > 4 THEN 'numeric(' || ((m - 4) // 65536) || ',' || ((m - 4) % 65536) || ')' ELSE coalesce((SELECT max(t.typdisplay) FROM pg_type t WHERE t.oid = o), '???') END",
    "col_description": "(o, n) AS (SELECT max(d.description) FROM pg_description d WHERE d.objoid = o AND d.objsubid = n)",
    "obj_description": "(o) AS (SELECT max(d.description) FROM pg_description d WHERE d.objoid = o AND d.objsubid = 0), (o, k) AS (SELECT max(d.description) FROM pg_description d WHERE d.objoid = o AND d.objsubid = 0)",
    "getdatabaseencoding": "() AS 'UTF8'",
    "pg_char_to_encoding": "(n) AS 6",
    "pg_partition_ancestors": "(o) AS CAST(NULL AS UINTEGER)",
    "pg_partition_ancestors_rows": "(o) AS TABLE SELECT CAST(o AS UINTEGER) AS relid, 1 AS depth WHERE false",
    "pg_partition_root": "(o) AS CAST(NULL AS UINTEGER)",
    "pg_client_encoding": "() AS 'UTF8'",
    "pg_encoding_to_char": "(n) AS 'UTF8'",
    "pg_get_constraintdef": "(o) AS (SELECT max(c.condef) FROM pg_constraint c WHERE c.oid = o), (o, p) AS (SELECT max(c.condef) FROM pg_constraint c WHERE c.oid = o)",
    "pg_get_expr": "(e, r) AS e, (e, r, p) AS e",
    "pg_get_function_arguments": "(o) AS ''",
    "pg_get_function_identity_arguments": "(o) AS ''",
    "pg_get_function_result": "(o) AS 'text'",
    "pg_get_functiondef": "(o) AS CAST(NULL AS VARCHAR)",
    "pg_get_indexdef": "(o) AS (SELECT max(i.indexdef) FROM pg_indexes_by_oid i WHERE i.oid = o), (o, n, p) AS (SELECT max(CASE WHEN n = 0 THEN i.indexdef ELSE i.columns[n] END) FROM pg_indexes_by_oid i WHERE i.oid = o)",
    "pg_get_userbyid": "(o) AS (SELECT max(r.rolname) FROM pg_roles r WHERE r.oid = o)",
    "pg_get_viewdef": "(o) AS (SELECT max(v.definition) FROM pg_views_by_oid v WHERE v.oid = o), (o, p) AS (SELECT max(v.definition) FROM pg_views_by_oid v WHERE v.oid = o)",
    "pg_index_column_has_property": "(i, n, p) AS false",
    "pg_indexam_has_capability": "(i, p) AS false",
    "pg_is_in_recovery": "() AS false",
    "pg_is_other_temp_schema": "(o) AS false",
    "pg_my_temp_schema": "() AS 0",
    "pg_postmaster_start_time": "() AS (SELECT min(backend_start) FROM pg_stat_activity)",
    "pg_relation_is_publishable": "(o) AS false",
    "pg_relation_size": "(o) AS 0::BIGINT, (o, f) AS 0::BIGINT",
    "pg_size_pretty": "(n) AS format_bytes(CAST(n AS BIGINT))",
    "pg_table_is_visible": "(o) AS (SELECT count(*) > 0 FROM pg_class c WHERE c.oid = o AND c.relvisible)",
    "pg_options_to_table": "(o) AS TABLE SELECT '' AS option_name, '' AS option_value WHERE false",
    "pg_partition_tree": "(o) AS TABLE SELECT CAST(0 AS UINTEGER) AS relid, CAST(0 AS UINTEGER) AS parentrelid, true AS isleaf, 0 AS level WHERE false",
    "pg_tablespace_size": "(o) AS 0::BIGINT",
    "pg_table_size": "(o) AS 0::BIGINT",
    "pg_indexes_size": "(o) AS 0::BIGINT",
    "pg_total_relation_size": "(o) AS 0::BIGINT",
    "pg_database_size": "(o) AS 0::BIGINT",
    "quote_ident": "(n) AS CASE WHEN regexp_full_match(n, '[a-z_][a-z0-9_$]*') THEN n ELSE '\"' || replace(n, '\"', '\"\"') || '\"' END",
    "quote_literal": "(n) AS '''' || replace(n, '''', '''''') || ''''",
    "regclass_name": "(o) AS (SELECT max(CASE WHEN c.relvisible THEN quote_ident(c.relname) ELSE quote_ident(c.relschema) || '.' || quote_ident(c.relname) END) FROM pg_class c WHERE c.oid = o)",
    "regnamespace_name": "(o) AS (SELECT max(quote_ident(n.nspname)) FROM pg_namespace n WHERE n.oid = o)",
    "regproc_name": "(o) AS (SELECT max(p.proname) FROM pg_proc p WHERE p.oid = o)",
    "regrole_name": "(o) AS (SELECT max(r.rolname) FROM pg_roles r WHERE r.oid = o)",
    "to_regclass": "(n) AS regclass_oid(n)",
    "to_regtype": "(n) AS regtype_oid(n)",
    "regclass_oid": "(n) AS CASE WHEN regexp_full_match(n, '[0-9]+') THEN TRY_CAST(n AS UINTEGER) ELSE (SELECT min(c.oid) FROM pg_class c WHERE list_contains([c.relname, c.relschema || '.' || c.relname], replace(n, '\"', '')) AND (c.relvisible OR contains(n, '.'))) END",
    "regtype_oid": "(n) AS (SELECT min(t.oid) FROM pg_type t WHERE list_contains([t.typname, t.typdisplay], replace(replace(n, '\"', ''), 'pg_catalog.', '')))",
    "regnamespace_oid": "(n) AS (SELECT min(s.oid) FROM pg_namespace s WHERE s.nspname = replace(n, '\"', ''))",
    "pg_sequence_last_value": "(o) AS CAST(NULL AS BIGINT)",
    "pg_stat_get_numscans": "(o) AS 0::BIGINT",
    "array_remove": "(a, e) AS list_filter(a, lambda x: x IS DISTINCT FROM e)",
    "array_upper": "(a, d) AS nullif(len(a), 0)",
    "array_lower": "(a, d) AS CASE WHEN len(a) > 0 THEN 1 END",
    "pg_show_all_settings": "() AS TABLE SELECT * FROM pg_settings",
    "pg_get_keywords": "() AS TABLE SELECT keyword_name AS word, left(keyword_category, 1) AS catcode, keyword_category AS catdesc FROM duckdb_keywords()",
}  # fmt: skip


def macros() -> dict[str, str]:
    """Return name → CREATE MACRO statement."""
    bodies = dict.fromkeys(PRIVILEGE_FUNCTIONS, "(a, b) AS true, (a, b, c) AS true")
    bodies.update(dict.fromkeys(VISIBILITY_FUNCTIONS, "(o) AS true"))
    for name, arities in _NULL_FUNCTIONS.items():
        bodies[name] = ", ".join(
            f"({', '.join(f'a{i}' for i in range(arity))}) AS CAST(NULL AS VARCHAR)"
            for arity in arities
        )
    bodies.update(_MACROS)
    return {name: f"CREATE OR REPLACE TEMP MACRO {name}{body}" for name, body in bodies.items()}


def function_names() -> frozenset[str]:
    """Return the names of all of them."""
    return frozenset({*PRIVILEGE_FUNCTIONS, *VISIBILITY_FUNCTIONS, *_NULL_FUNCTIONS, *_MACROS})
