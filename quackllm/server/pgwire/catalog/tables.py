"""The catalog's tables, as DuckDB's SQL over what the served database says of itself.

`GATHER` runs in the session's connection; its results stand under the names of its keys
in the private database, where `TABLES` makes PostgreSQL's tables of them.
"""

from __future__ import annotations

GATHER = {
    "raw_schemas": """
        SELECT schema_name AS name, oid FROM duckdb_schemas()
        WHERE database_name = current_database() AND NOT internal AND schema_name <> 'public'
        UNION ALL SELECT 'main', oid FROM duckdb_schemas()
        WHERE database_name = current_database() AND schema_name = 'main' AND internal""",
    "raw_relations": """
        SELECT database_name = 'temp' AS is_temp, schema_name, table_name AS name, 'r' AS kind,
               table_oid AS oid, column_count, CAST(NULL AS VARCHAR) AS sql, comment,
               estimated_size, has_primary_key
        FROM duckdb_tables()
        WHERE database_name IN (current_database(), 'temp') AND NOT internal
          AND NOT starts_with(table_name, '__llm')
        UNION ALL
        SELECT database_name = 'temp', schema_name, view_name, 'v', view_oid, column_count, sql,
               comment, 0, false
        FROM duckdb_views()
        WHERE database_name IN (current_database(), 'temp') AND NOT internal
          AND NOT starts_with(view_name, '__llm')
        UNION ALL
        SELECT temporary, schema_name, sequence_name, 'S', sequence_oid, 3, sql, comment, 1, false
        FROM duckdb_sequences() WHERE database_name IN (current_database(), 'temp')""",
    "raw_columns": """
        SELECT database_name = 'temp' AS is_temp, table_oid, column_name AS name, column_index,
               data_type, is_nullable, column_default, comment
        FROM duckdb_columns()
        WHERE database_name IN (current_database(), 'temp') AND NOT internal
          AND NOT starts_with(table_name, '__llm')""",
    "raw_constraints": """
        SELECT database_name = 'temp' AS is_temp, schema_name, table_name, table_oid,
               constraint_index, constraint_type, constraint_text, expression,
               constraint_column_indexes AS indexes, constraint_column_names AS names,
               constraint_name AS name, referenced_table, referenced_column_names
        FROM duckdb_constraints()
        WHERE database_name IN (current_database(), 'temp')
          AND constraint_type IN ('PRIMARY KEY', 'UNIQUE', 'FOREIGN KEY', 'CHECK')""",
    "raw_indexes": """
        SELECT database_name = 'temp' AS is_temp, schema_name, index_name AS name,
               index_oid AS oid, table_oid, table_name, is_unique, sql,
               CAST(expressions AS VARCHAR) AS expressions
        FROM duckdb_indexes() WHERE database_name IN (current_database(), 'temp')""",
    "raw_functions": """
        SELECT schema_name, function_name AS name, min(function_oid) AS oid, function_type AS type
        FROM duckdb_functions()
        WHERE database_name = current_database() AND NOT internal
        GROUP BY ALL""",
    "raw_session": """
        SELECT current_database() AS database, current_schema() AS schema,
               current_schemas(false) AS path""",
}

_NUMBER = "CAST({} + CASE WHEN {} THEN 1000000000 ELSE 16384 END AS UINTEGER)"


def _oid(column: str, is_temp: str) -> str:
    return _NUMBER.format(column, is_temp)


_TABLE_OID = _oid("table_oid", "is_temp")
_NAMESPACE = "CAST(CASE WHEN {0}is_temp THEN 15000 ELSE coalesce((SELECT min(n.oid) FROM pg_namespace n WHERE n.nspname = {0}schema_name), 2200) END AS UINTEGER)"
_CONSTRAINT_OID = "CAST(2000000000 + table_oid * 64 + constraint_index AS UINTEGER)"
_BACKING_OID = "CAST(1500000000 + table_oid * 64 + constraint_index AS UINTEGER)"
_CONSTRAINT_NAME = (
    "coalesce(name, CASE constraint_type WHEN 'PRIMARY KEY' THEN table_name || '_pkey' "
    "ELSE table_name || '_' || array_to_string(names, '_') || CASE constraint_type "
    "WHEN 'UNIQUE' THEN '_key' WHEN 'FOREIGN KEY' THEN '_fkey' ELSE '_check' END END)"
)

TABLES = {
    "pg_namespace": """
        SELECT CAST(oid + 16384 AS UINTEGER) AS oid, name AS nspname,
               CAST(10 AS UINTEGER) AS nspowner, CAST(NULL AS VARCHAR[]) AS nspacl
        FROM raw_schemas
        UNION ALL SELECT 11, 'pg_catalog', 10, NULL
        UNION ALL SELECT 2200, 'public', 10, NULL
        UNION ALL SELECT 13000, 'information_schema', 10, NULL
        UNION ALL SELECT 15000, 'pg_temp_1', 10, NULL WHERE (SELECT bool_or(is_temp) FROM raw_relations)""",
    "relations": f"""
        SELECT {_oid("oid", "is_temp")} AS oid, name, kind, schema_name, is_temp,
               {_NAMESPACE.format("")} AS namespace, column_count, sql, comment, estimated_size,
               is_temp OR schema_name = (SELECT schema FROM raw_session)
               OR list_contains((SELECT path FROM raw_session), schema_name) AS visible,
               has_primary_key
        FROM raw_relations""",
    "constraints": f"""
        SELECT {_CONSTRAINT_OID} AS oid, {_BACKING_OID} AS index_oid, {_CONSTRAINT_NAME} AS conname,
               {_TABLE_OID} AS relid, {_NAMESPACE.format("")} AS namespace, constraint_type AS type,
               constraint_text AS text, list_transform(indexes, lambda x: CAST(x + 1 AS SMALLINT)) AS keys,
               names, referenced_table, referenced_column_names, schema_name, table_name, is_temp
        FROM raw_constraints""",
    "index_list": f"""
        SELECT {_oid("oid", "is_temp")} AS oid, name, {_oid("table_oid", "is_temp")} AS relid,
               {_NAMESPACE.format("")} AS namespace, is_unique, false AS is_primary,
               string_split(replace(replace(trim(expressions, '[]'), '''', ''), '"', ''), ', ') AS columns,
               'CREATE ' || CASE WHEN is_unique THEN 'UNIQUE ' ELSE '' END || 'INDEX ' || quote_ident(name)
               || ' ON ' || quote_ident(schema_name) || '.' || quote_ident(table_name) || ' USING art ('
               || replace(replace(trim(expressions, '[]'), chr(39), ''), chr(34), '') || ')' AS definition,
               schema_name, table_name
        FROM raw_indexes
        UNION ALL
        SELECT index_oid, conname, relid, namespace, true, type = 'PRIMARY KEY', names,
               'CREATE UNIQUE INDEX ' || quote_ident(conname) || ' ON ' || quote_ident(schema_name)
               || '.' || quote_ident(table_name) || ' USING art ('
               || array_to_string(list_transform(names, lambda x: quote_ident(x)), ', ') || ')',
               schema_name, table_name
        FROM constraints WHERE type IN ('PRIMARY KEY', 'UNIQUE')""",
    "pg_class": """
        SELECT oid, name AS relname, namespace AS relnamespace, CAST(0 AS UINTEGER) AS reltype,
               CAST(0 AS UINTEGER) AS reloftype, CAST(10 AS UINTEGER) AS relowner,
               CAST(CASE WHEN kind = 'r' THEN 2 ELSE 0 END AS UINTEGER) AS relam,
               oid AS relfilenode, CAST(0 AS UINTEGER) AS reltablespace,
               CAST(0 AS INTEGER) AS relpages, CAST(estimated_size AS FLOAT) AS reltuples,
               CAST(0 AS INTEGER) AS relallvisible, CAST(0 AS UINTEGER) AS reltoastrelid,
               coalesce(has_primary_key, false) OR oid IN (SELECT relid FROM index_list) AS relhasindex,
               false AS relisshared, CASE WHEN is_temp THEN 't' ELSE 'p' END AS relpersistence,
               kind AS relkind, CAST(column_count AS SMALLINT) AS relnatts,
               CAST((SELECT count(*) FROM constraints c WHERE c.relid = r.oid AND c.type = 'CHECK') AS SMALLINT) AS relchecks,
               false AS relhasrules,
               EXISTS (FROM constraints c WHERE c.type = 'FOREIGN KEY'
                       AND (c.relid = r.oid OR c.referenced_table = r.name)) AS relhastriggers, false AS relhassubclass,
               false AS relrowsecurity, false AS relforcerowsecurity, true AS relispopulated,
               'd' AS relreplident, false AS relispartition, CAST(0 AS UINTEGER) AS relrewrite,
               CAST(0 AS UINTEGER) AS relfrozenxid, CAST(0 AS UINTEGER) AS relminmxid,
               CAST(NULL AS VARCHAR[]) AS relacl, CAST(NULL AS VARCHAR[]) AS reloptions,
               CAST(NULL AS VARCHAR) AS relpartbound, false AS relhasoids,
               visible AS relvisible, schema_name AS relschema
        FROM relations r
        UNION ALL
        SELECT oid, name, namespace, 0, 0, 10, 403, oid, 0, 0, 0, 0, 0, false, false, 'p', 'i',
               len(columns), 0, false, false, false, false, false, true, 'n', false, 0, 0, 0, NULL,
               NULL, NULL, false, true, schema_name
        FROM index_list
        UNION ALL
        SELECT oid, relname, 11, 0, 0, 10, 2, oid, 0, 0, 0, 0, 0, false, false, 'p', 'r', 1, 0,
               false, false, false, false, false, true, 'n', false, 0, 0, 0, NULL, NULL, NULL,
               false, true, 'pg_catalog'
        FROM (VALUES (1247, 'pg_type'), (1249, 'pg_attribute'), (1255, 'pg_proc'), (1259, 'pg_class'),
              (2606, 'pg_constraint'), (2604, 'pg_attrdef'), (2609, 'pg_description'),
              (2610, 'pg_index'), (2615, 'pg_namespace'), (1262, 'pg_database'),
              (2618, 'pg_rewrite'), (2620, 'pg_trigger')) t(oid, relname)""",
    "columns_list": f"""
        SELECT {_TABLE_OID} AS relid, c.name, CAST(column_index AS SMALLINT) AS num, data_type,
               is_nullable, column_default, c.comment, t.oid AS type_oid, t.modifier, t.size,
               t.display, t.udt
        FROM raw_columns c JOIN raw_types t USING (data_type)""",
    "column_numbers": "SELECT relid, map_from_entries(list((name, num))) AS numbers FROM columns_list GROUP BY relid",
    "pg_attribute": """
        SELECT relid AS attrelid, name AS attname, type_oid AS atttypid,
               CAST(-1 AS INTEGER) AS attstattarget, CAST(size AS SMALLINT) AS attlen, num AS attnum,
               CAST(0 AS INTEGER) AS attndims, CAST(-1 AS INTEGER) AS attcacheoff,
               CAST(modifier AS INTEGER) AS atttypmod, size IN (1, 2, 4, 8) AS attbyval,
               'i' AS attalign, 'p' AS attstorage, '' AS attcompression, NOT is_nullable AS attnotnull,
               column_default IS NOT NULL AS atthasdef, false AS atthasmissing, '' AS attidentity,
               '' AS attgenerated, false AS attisdropped, true AS attislocal,
               CAST(0 AS INTEGER) AS attinhcount,
               CAST(CASE WHEN type_oid IN (25, 1043) THEN 100 ELSE 0 END AS UINTEGER) AS attcollation,
               CAST(NULL AS VARCHAR[]) AS attacl, CAST(NULL AS VARCHAR[]) AS attoptions,
               CAST(NULL AS VARCHAR[]) AS attfdwoptions, CAST(NULL AS VARCHAR) AS attmissingval
        FROM columns_list
        UNION ALL
        SELECT i.oid, u.name, coalesce(c.type_oid, 25), -1, coalesce(c.size, -1), u.num, 0, -1, -1,
               false, 'i', 'p', '', false, false, false, '', '', false, true, 0, 0, NULL, NULL, NULL, NULL
        FROM (SELECT oid, relid, unnest(columns) AS name,
                     CAST(unnest(range(1, len(columns) + 1)) AS SMALLINT) AS num FROM index_list) u
        JOIN index_list i USING (oid)
        LEFT JOIN columns_list c ON c.relid = u.relid AND c.name = u.name""",
    "pg_attrdef": """
        SELECT CAST(relid * 64 + num AS UINTEGER) AS oid, relid AS adrelid, num AS adnum,
               column_default AS adbin, column_default AS adsrc
        FROM columns_list WHERE column_default IS NOT NULL""",
    "pg_constraint": """
        SELECT c.oid, conname, c.namespace AS connamespace,
               CASE type WHEN 'PRIMARY KEY' THEN 'p' WHEN 'UNIQUE' THEN 'u' WHEN 'FOREIGN KEY' THEN 'f'
                    ELSE 'c' END AS contype,
               false AS condeferrable, false AS condeferred, true AS convalidated, c.relid AS conrelid,
               CAST(0 AS UINTEGER) AS contypid,
               CASE WHEN type IN ('PRIMARY KEY', 'UNIQUE') THEN index_oid
                    WHEN type = 'FOREIGN KEY' THEN coalesce((SELECT min(p.index_oid) FROM constraints p
                         WHERE p.relid = f.oid AND p.type = 'PRIMARY KEY'), 0)
                    ELSE 0 END AS conindid,
               CAST(0 AS UINTEGER) AS conparentid, coalesce(f.oid, 0) AS confrelid,
               CASE WHEN type = 'FOREIGN KEY' THEN 'a' ELSE ' ' END AS confupdtype,
               CASE WHEN type = 'FOREIGN KEY' THEN 'a' ELSE ' ' END AS confdeltype,
               CASE WHEN type = 'FOREIGN KEY' THEN 's' ELSE ' ' END AS confmatchtype,
               true AS conislocal, CAST(0 AS INTEGER) AS coninhcount, true AS connoinherit,
               keys AS conkey,
               CASE WHEN type = 'FOREIGN KEY' THEN list_transform(referenced_column_names, lambda n: m.numbers[n]) END AS confkey,
               text AS conbin, text AS condef
        FROM constraints c LEFT JOIN relations f
          ON c.type = 'FOREIGN KEY' AND f.name = c.referenced_table AND f.schema_name = c.schema_name
             AND f.is_temp = c.is_temp
        LEFT JOIN column_numbers m ON m.relid = f.oid""",
    "pg_index": """
        SELECT i.oid AS indexrelid, i.relid AS indrelid, CAST(len(columns) AS SMALLINT) AS indnatts,
               CAST(len(columns) AS SMALLINT) AS indnkeyatts, is_unique AS indisunique,
               is_primary AS indisprimary, false AS indisexclusion, true AS indimmediate,
               false AS indisclustered, true AS indisvalid, false AS indcheckxmin,
               true AS indisready, true AS indislive, false AS indisreplident,
               false AS indnullsnotdistinct,
               list_transform(columns, lambda n: coalesce(m.numbers[n], 0)) AS indkey,
               list_transform(columns, lambda n: CAST(0 AS UINTEGER)) AS indcollation,
               list_transform(columns, lambda n: CAST(0 AS UINTEGER)) AS indclass,
               list_transform(columns, lambda n: CAST(0 AS SMALLINT)) AS indoption,
               CAST(NULL AS VARCHAR) AS indexprs, CAST(NULL AS VARCHAR) AS indpred
        FROM index_list i LEFT JOIN column_numbers m ON m.relid = i.relid""",
    "pg_indexes_by_oid": "SELECT oid, definition AS indexdef, columns FROM index_list",
    "pg_indexes": """
        SELECT schema_name AS schemaname, table_name AS tablename, name AS indexname,
               CAST(NULL AS VARCHAR) AS tablespace, definition AS indexdef
        FROM index_list""",
    "pg_views_by_oid": """
        SELECT oid, regexp_replace(sql, '^\\s*CREATE\\s.*?\\sAS\\s+', '', 'is') AS definition
        FROM relations WHERE kind = 'v'""",
    "pg_views": """
        SELECT schema_name AS schemaname, name AS viewname, 'quackllm' AS viewowner,
               (SELECT definition FROM pg_views_by_oid v WHERE v.oid = r.oid) AS definition
        FROM relations r WHERE kind = 'v'""",
    "pg_tables": """
        SELECT schema_name AS schemaname, name AS tablename, 'quackllm' AS tableowner,
               CAST(NULL AS VARCHAR) AS tablespace, has_primary_key AS hasindexes,
               false AS hasrules, false AS hastriggers, false AS rowsecurity
        FROM relations WHERE kind = 'r'""",
    "pg_stat_user_tables": """
        SELECT oid AS relid, schema_name AS schemaname, name AS relname, 0 AS seq_scan,
               CAST(estimated_size AS BIGINT) AS n_live_tup, CAST(0 AS BIGINT) AS n_dead_tup
        FROM relations WHERE kind = 'r'""",
    "pg_sequence": """
        SELECT oid AS seqrelid, CAST(20 AS UINTEGER) AS seqtypid, CAST(1 AS BIGINT) AS seqstart,
               CAST(1 AS BIGINT) AS seqincrement, CAST(9223372036854775807 AS BIGINT) AS seqmax,
               CAST(1 AS BIGINT) AS seqmin, CAST(1 AS BIGINT) AS seqcache, false AS seqcycle
        FROM relations WHERE kind = 'S'""",
    "pg_sequences": """
        SELECT schema_name AS schemaname, name AS sequencename, 'quackllm' AS sequenceowner
        FROM relations WHERE kind = 'S'""",
    "pg_description": """
        SELECT oid AS objoid, CAST(1259 AS UINTEGER) AS classoid, CAST(0 AS INTEGER) AS objsubid,
               comment AS description
        FROM relations WHERE comment IS NOT NULL
        UNION ALL SELECT relid, 1259, num, comment FROM columns_list WHERE comment IS NOT NULL""",
    "pg_proc": """
        SELECT CAST(16384 + row_number() OVER (ORDER BY schema_name, name) AS UINTEGER) AS oid,
               name AS proname,
               coalesce((SELECT min(n.oid) FROM pg_namespace n WHERE n.nspname = schema_name), 11) AS pronamespace,
               CAST(10 AS UINTEGER) AS proowner, CAST(14 AS UINTEGER) AS prolang,
               CAST(1 AS FLOAT) AS procost, CAST(0 AS FLOAT) AS prorows,
               CAST(0 AS UINTEGER) AS provariadic, 'f' AS prokind, false AS prosecdef,
               false AS proleakproof, false AS proisstrict, type = 'table_macro' AS proretset,
               'v' AS provolatile, 'u' AS proparallel, CAST(0 AS SMALLINT) AS pronargs,
               CAST(0 AS SMALLINT) AS pronargdefaults, CAST(25 AS UINTEGER) AS prorettype,
               CAST([] AS UINTEGER[]) AS proargtypes, CAST(NULL AS UINTEGER[]) AS proallargtypes,
               CAST(NULL AS VARCHAR[]) AS proargmodes, CAST(NULL AS VARCHAR[]) AS proargnames,
               CAST(NULL AS VARCHAR) AS proargdefaults, '' AS prosrc, false AS proisagg,
               CAST(NULL AS VARCHAR[]) AS proacl
        FROM raw_functions""",
}


# columns: of every table and view, numbered, with PostgreSQL's words for their types.
INFORMATION = {
    "schemata": """
        SELECT database AS catalog_name, nspname AS schema_name, 'quackllm' AS schema_owner,
               CAST(NULL AS VARCHAR) AS default_character_set_catalog,
               CAST(NULL AS VARCHAR) AS default_character_set_schema,
               CAST(NULL AS VARCHAR) AS default_character_set_name, CAST(NULL AS VARCHAR) AS sql_path
        FROM pg_namespace, raw_session""",
    "tables": """
        SELECT database AS table_catalog, CASE WHEN is_temp THEN 'pg_temp_1' ELSE schema_name END AS table_schema,
               name AS table_name,
               CASE WHEN kind = 'v' THEN 'VIEW' WHEN is_temp THEN 'LOCAL TEMPORARY' ELSE 'BASE TABLE' END AS table_type,
               CAST(NULL AS VARCHAR) AS self_referencing_column_name,
               CAST(NULL AS VARCHAR) AS reference_generation,
               CAST(NULL AS VARCHAR) AS user_defined_type_catalog,
               CAST(NULL AS VARCHAR) AS user_defined_type_schema,
               CAST(NULL AS VARCHAR) AS user_defined_type_name,
               CASE WHEN kind = 'r' THEN 'YES' ELSE 'NO' END AS is_insertable_into,
               'NO' AS is_typed, CAST(NULL AS VARCHAR) AS commit_action
        FROM relations, raw_session WHERE kind IN ('r', 'v')""",
    "columns": """
        SELECT database AS table_catalog, CASE WHEN is_temp THEN 'pg_temp_1' ELSE r.schema_name END AS table_schema,
               r.name AS table_name, c.name AS column_name, CAST(num AS INTEGER) AS ordinal_position,
               column_default, CASE WHEN is_nullable THEN 'YES' ELSE 'NO' END AS is_nullable,
               CASE WHEN starts_with(udt, '_') THEN 'ARRAY' ELSE regexp_replace(display, '\\(.*\\)', '') END AS data_type,
               CAST(NULL AS INTEGER) AS character_maximum_length,
               CASE WHEN type_oid IN (25, 1043) THEN 1073741824 END AS character_octet_length,
               CASE type_oid WHEN 21 THEN 16 WHEN 23 THEN 32 WHEN 20 THEN 64 WHEN 700 THEN 24
                    WHEN 701 THEN 53 WHEN 1700 THEN CASE WHEN modifier > 4 THEN (modifier - 4) // 65536 END
                    END AS numeric_precision,
               CASE WHEN type_oid IN (20, 21, 23, 700, 701) THEN 2 WHEN type_oid = 1700 THEN 10 END AS numeric_precision_radix,
               CASE WHEN type_oid IN (20, 21, 23) THEN 0 WHEN type_oid = 1700 AND modifier > 4
                    THEN (modifier - 4) % 65536 END AS numeric_scale,
               CASE WHEN type_oid IN (1083, 1114, 1184, 1266, 1186) THEN 6 WHEN type_oid = 1082 THEN 0 END AS datetime_precision,
               CAST(NULL AS VARCHAR) AS interval_type, CAST(NULL AS INTEGER) AS interval_precision,
               CAST(NULL AS VARCHAR) AS character_set_catalog, CAST(NULL AS VARCHAR) AS character_set_schema,
               CAST(NULL AS VARCHAR) AS character_set_name, CAST(NULL AS VARCHAR) AS collation_catalog,
               CAST(NULL AS VARCHAR) AS collation_schema, CAST(NULL AS VARCHAR) AS collation_name,
               CAST(NULL AS VARCHAR) AS domain_catalog, CAST(NULL AS VARCHAR) AS domain_schema,
               CAST(NULL AS VARCHAR) AS domain_name, database AS udt_catalog, 'pg_catalog' AS udt_schema,
               udt AS udt_name, CAST(NULL AS VARCHAR) AS scope_catalog, CAST(NULL AS VARCHAR) AS scope_schema,
               CAST(NULL AS VARCHAR) AS scope_name, CAST(NULL AS INTEGER) AS maximum_cardinality,
               CAST(num AS VARCHAR) AS dtd_identifier, 'NO' AS is_self_referencing, 'NO' AS is_identity,
               CAST(NULL AS VARCHAR) AS identity_generation, CAST(NULL AS VARCHAR) AS identity_start,
               CAST(NULL AS VARCHAR) AS identity_increment, CAST(NULL AS VARCHAR) AS identity_maximum,
               CAST(NULL AS VARCHAR) AS identity_minimum, CAST(NULL AS VARCHAR) AS identity_cycle,
               'NEVER' AS is_generated, CAST(NULL AS VARCHAR) AS generation_expression,
               CASE WHEN kind = 'r' THEN 'YES' ELSE 'NO' END AS is_updatable
        FROM columns_list c JOIN relations r ON r.oid = c.relid, raw_session""",
    "views": """
        SELECT database AS table_catalog, schemaname AS table_schema, viewname AS table_name,
               definition AS view_definition, 'NONE' AS check_option, 'NO' AS is_updatable,
               'NO' AS is_insertable_into
        FROM pg_views, raw_session""",
    "table_constraints": """
        SELECT database AS constraint_catalog, schema_name AS constraint_schema, conname AS constraint_name,
               database AS table_catalog, schema_name AS table_schema, table_name,
               type AS constraint_type, 'NO' AS is_deferrable, 'NO' AS initially_deferred, 'YES' AS enforced
        FROM constraints, raw_session""",
    "key_column_usage": """
        SELECT database AS constraint_catalog, schema_name AS constraint_schema, conname AS constraint_name,
               database AS table_catalog, schema_name AS table_schema, table_name,
               unnest(names) AS column_name,
               CAST(unnest(range(1, len(names) + 1)) AS INTEGER) AS ordinal_position,
               CAST(CASE WHEN type = 'FOREIGN KEY' THEN unnest(range(1, len(names) + 1)) END AS INTEGER) AS position_in_unique_constraint
        FROM constraints, raw_session WHERE type <> 'CHECK'""",
    "constraint_column_usage": """
        SELECT database AS table_catalog, schema_name AS table_schema,
               CASE WHEN type = 'FOREIGN KEY' THEN referenced_table ELSE table_name END AS table_name,
               unnest(CASE WHEN type = 'FOREIGN KEY' THEN referenced_column_names ELSE names END) AS column_name,
               database AS constraint_catalog, schema_name AS constraint_schema, conname AS constraint_name
        FROM constraints, raw_session""",
    "constraint_table_usage": """
        SELECT DISTINCT table_catalog, table_schema, table_name, constraint_catalog, constraint_schema, constraint_name
        FROM information_constraint_column_usage""",
    "referential_constraints": """
        SELECT database AS constraint_catalog, c.schema_name AS constraint_schema, c.conname AS constraint_name,
               database AS unique_constraint_catalog, p.schema_name AS unique_constraint_schema,
               p.conname AS unique_constraint_name, 'NONE' AS match_option, 'NO ACTION' AS update_rule,
               'NO ACTION' AS delete_rule
        FROM constraints c LEFT JOIN constraints p
          ON p.table_name = c.referenced_table AND p.schema_name = c.schema_name AND p.type = 'PRIMARY KEY',
          raw_session
        WHERE c.type = 'FOREIGN KEY'""",
    "check_constraints": """
        SELECT database AS constraint_catalog, schema_name AS constraint_schema, conname AS constraint_name,
               text AS check_clause FROM constraints, raw_session WHERE type = 'CHECK'""",
    "sequences": """
        SELECT database AS sequence_catalog, schema_name AS sequence_schema, name AS sequence_name,
               'bigint' AS data_type FROM relations, raw_session WHERE kind = 'S'""",
    "table_privileges": """
        SELECT 'quackllm' AS grantor, 'PUBLIC' AS grantee, database AS table_catalog,
               schema_name AS table_schema, name AS table_name, p.privilege AS privilege_type,
               'NO' AS is_grantable, 'NO' AS with_hierarchy
        FROM relations, raw_session, (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) p(privilege)""",
    "character_sets": """
        SELECT CAST(NULL AS VARCHAR) AS character_set_catalog, CAST(NULL AS VARCHAR) AS character_set_schema,
               'UTF8' AS character_set_name, 'UCS' AS character_repertoire, 'UTF8' AS form_of_use,
               database AS default_collate_catalog, 'pg_catalog' AS default_collate_schema,
               'default' AS default_collate_name FROM raw_session""",
    "collations": "SELECT database AS collation_catalog, 'pg_catalog' AS collation_schema, 'default' AS collation_name, 'NO PAD' AS pad_attribute FROM raw_session",
    "information_schema_catalog_name": "SELECT database AS catalog_name FROM raw_session",
    "enabled_roles": "SELECT rolname AS role_name FROM pg_roles",
    "applicable_roles": "SELECT rolname AS grantee, rolname AS role_name, 'NO' AS is_grantable FROM pg_roles",
}
