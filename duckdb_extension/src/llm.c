/* FROM llm('SELECT ...'): the whole statement is planned and run by the engine, which asks for the
 * shell's tables that it names. FROM llm_errors() and its like are such statements too. */
#include "extension.h"
#include "vectors.h"

#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	const char *sql; /* NULL: the argument */
} TABLE_FUNCTIONS[] = {
    {"llm", NULL},
    {"llm_errors", "FROM llm_errors()"},
    {"llm_queries", "FROM llm_queries()"},
    {"llm_settings", "FROM llm_settings()"},
    {"llm_functions", "FROM llm_functions()"},
    {"llm_models", "FROM llm_models()"},
    {"llm_secrets", "FROM llm_secrets()"},
    {"llm_cache", "FROM llm_cache()"},
};

typedef struct {
	Extension *extension;
	const char *sql;
} TableFunction;

/* What a statement is bound to, by the columns it will have. */
typedef struct {
	Extension *extension;
	char *sql;
	idx_t columns;
	duckdb_logical_type *types;
} Bound;

/* One run of it. */
typedef struct {
	Extension *extension;
	int connection; /* -1 when all rows have come */
} Scan;

static void table_function_free(void *given) {
	TableFunction *function = given;
	extension_release(function->extension);
	free(function);
}

static void bound_free(void *given) {
	Bound *bound = given;
	for (idx_t i = 0; i < bound->columns; i++) {
		duckdb_destroy_logical_type(&bound->types[i]);
	}
	free(bound->types);
	free(bound->sql);
	extension_release(bound->extension);
	free(bound);
}

static void scan_free(void *given) {
	Scan *scan = given;
	if (scan->connection >= 0) {
		engine_release(scan->extension->engine, scan->connection, false);
	}
	extension_release(scan->extension);
	free(scan);
}

/* Waits for the answer to a request; meanwhile the engine may ask for the shell's tables. */
static bool receive_answer(Extension *extension, int connection, uint8_t *kind, Buffer *reply, Error *error) {
	while (frame_receive(extension->engine, connection, kind, reply, error)) {
		if (*kind != FRAME_QUERY) {
			return true;
		}
		if (!shell_data_answer(extension->shell, connection, reply, error)) {
			return false;
		}
	}
	return false;
}

static int request(Extension *extension, uint8_t kind, const char *sql, Error *error) {
	int connection = engine_connect(extension->engine, error);
	if (connection < 0) {
		return -1;
	}
	Buffer message = {0};
	buffer_put_text(&message, sql);
	bool sent = frame_send(connection, kind, &message, error);
	buffer_free(&message);
	if (!sent) {
		engine_release(extension->engine, connection, false);
	}
	return sent ? connection : -1;
}

static bool add_columns(duckdb_bind_info info, Bound *bound, Reader *in) {
	uint32_t count = reader_u32(in);
	if (in->failed || count > (size_t)(in->end - in->at)) {
		return false;
	}
	bound->types = calloc(count ? count : 1, sizeof *bound->types);
	for (uint32_t i = 0; bound->types && i < count; i++) {
		char *name = reader_text(in);
		duckdb_logical_type type = name ? get_type(in) : NULL;
		if (type) {
			duckdb_bind_add_result_column(info, name, type);
			bound->types[bound->columns++] = type;
		}
		free(name);
	}
	return bound->types && bound->columns == count;
}

static bool describe(duckdb_bind_info info, Bound *bound, Error *error) {
	Buffer reply = {0};
	uint8_t kind = 0;
	int connection = request(bound->extension, FRAME_BIND, bound->sql, error);
	if (connection < 0) {
		return false;
	}
	bool done = receive_answer(bound->extension, connection, &kind, &reply, error);
	engine_release(bound->extension->engine, connection, done || kind == FRAME_ERROR);
	Reader in = reader_of(&reply);
	if (done && (kind != FRAME_COLUMNS || !add_columns(info, bound, &in))) {
		done = error_set(error, "the engine of quackllm sent columns that cannot be read");
	}
	buffer_free(&reply);
	return done;
}

static char *sql_of(duckdb_bind_info info, const TableFunction *function) {
	if (function->sql) {
		return strdup(function->sql);
	}
	duckdb_value value = duckdb_bind_get_parameter(info, 0);
	char *text = duckdb_is_null_value(value) ? NULL : duckdb_get_varchar(value);
	char *sql = text ? strdup(text) : NULL;
	duckdb_free(text);
	duckdb_destroy_value(&value);
	return sql;
}

static void bind(duckdb_bind_info info) {
	const TableFunction *function = duckdb_bind_get_extra_info(info);
	Error error = {0};
	Bound *bound = calloc(1, sizeof *bound);
	if (bound) {
		bound->extension = extension_share(function->extension);
		bound->sql = sql_of(info, function);
		duckdb_bind_set_bind_data(info, bound, bound_free);
	}
	if (!bound || !bound->sql) {
		error_set(&error, "llm(statement) needs the text of a statement");
	} else {
		describe(info, bound, &error);
	}
	if (error.text) {
		duckdb_bind_set_error(info, error.text);
	}
	error_free(&error);
}

static void init(duckdb_init_info info) {
	const Bound *bound = duckdb_init_get_bind_data(info);
	Error error = {0};
	Scan *scan = calloc(1, sizeof *scan);
	if (scan) {
		scan->extension = extension_share(bound->extension);
		scan->connection = request(bound->extension, FRAME_RUN, bound->sql, &error);
		duckdb_init_set_init_data(info, scan, scan_free);
		duckdb_init_set_max_threads(info, 1);
	}
	if (!scan || scan->connection < 0) {
		duckdb_init_set_error(info, error.text ? error.text : "out of memory");
	}
	error_free(&error);
}

static bool get_chunk(const Buffer *reply, const Bound *bound, duckdb_data_chunk output) {
	Reader in = reader_of(reply);
	idx_t rows = reader_u32(&in);
	bool whole = rows && rows <= duckdb_vector_size(); /* no rows would be the end for DuckDB */
	for (idx_t i = 0; whole && i < bound->columns; i++) {
		whole = get_vector(&in, duckdb_data_chunk_get_vector(output, i), bound->types[i], rows);
	}
	duckdb_data_chunk_set_size(output, whole ? rows : 0);
	return whole;
}

static void next_rows(duckdb_function_info info, duckdb_data_chunk output) {
	const Bound *bound = duckdb_function_get_bind_data(info);
	Scan *scan = duckdb_function_get_init_data(info);
	Buffer reply = {0};
	Error error = {0};
	uint8_t kind = 0;
	duckdb_data_chunk_set_size(output, 0);
	if (scan->connection < 0) {
		return;
	}
	bool received = receive_answer(scan->extension, scan->connection, &kind, &reply, &error);
	bool over = kind == FRAME_END || kind == FRAME_ERROR;
	if (received && kind != FRAME_END && (kind != FRAME_ROWS || !get_chunk(&reply, bound, output))) {
		received = error_set(&error, "the engine of quackllm sent rows that cannot be read");
	}
	if (over || !received) {
		engine_release(scan->extension->engine, scan->connection, over);
		scan->connection = -1;
	}
	if (!received) {
		duckdb_function_set_error(info, error.text ? error.text : "out of memory");
	}
	error_free(&error);
	buffer_free(&reply);
}

static bool register_one(duckdb_connection connection, Extension *extension, const char *name, const char *sql) {
	TableFunction *function = malloc(sizeof *function);
	if (!function) {
		return false;
	}
	*function = (TableFunction) {extension_share(extension), sql};
	duckdb_table_function made = duckdb_create_table_function();
	duckdb_table_function_set_name(made, name);
	if (!sql) {
		duckdb_logical_type text = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
		duckdb_table_function_add_parameter(made, text);
		duckdb_destroy_logical_type(&text);
	}
	duckdb_table_function_set_extra_info(made, function, table_function_free);
	duckdb_table_function_set_bind(made, bind);
	duckdb_table_function_set_init(made, init);
	duckdb_table_function_set_function(made, next_rows);
	bool done = duckdb_register_table_function(connection, made) == DuckDBSuccess;
	duckdb_destroy_table_function(&made);
	return done;
}

bool register_llm(duckdb_connection connection, Extension *extension) {
	bool done = true;
	for (size_t i = 0; done && i < sizeof TABLE_FUNCTIONS / sizeof *TABLE_FUNCTIONS; i++) {
		done = register_one(connection, extension, TABLE_FUNCTIONS[i].name, TABLE_FUNCTIONS[i].sql);
	}
	return done;
}
