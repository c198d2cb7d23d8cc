/* LLM_FILTER(...) and friends: a chunk of rows goes to the engine, a column of answers comes back. */
#include "extension.h"
#include "vectors.h"

#include <stdlib.h>
#include <string.h>

/* The functions of quackllm with the types they return here. JSON is what stands for a type that
 * depends on the arguments: DuckDB asks an extension for the type before it shows them. */
static const struct {
	const char *name;
	const char *type;
} FUNCTIONS[] = {
    {"llm", "VARCHAR"},           {"llm_complete", "VARCHAR"},  {"ai_complete", "VARCHAR"},
    {"llm_filter", "BOOLEAN"},    {"ai_filter", "BOOLEAN"},     {"llm_classify", "VARCHAR"},
    {"ai_classify", "VARCHAR"},   {"llm_extract", "JSON"},      {"ai_extract", "JSON"},
    {"llm_score", "DOUBLE"},      {"ai_score", "DOUBLE"},       {"llm_summarize", "VARCHAR"},
    {"ai_summarize", "VARCHAR"},  {"llm_translate", "VARCHAR"}, {"ai_translate", "VARCHAR"},
    {"llm_sentiment", "VARCHAR"}, {"ai_sentiment", "VARCHAR"},  {"llm_set", "VARCHAR"},
};

typedef struct {
	Extension *extension;
	const char *name;
	const char *type;
} Function;

static void function_free(void *given) {
	Function *function = given;
	extension_release(function->extension);
	free(function);
}

static bool put_arguments(Buffer *out, const char *name, duckdb_data_chunk input, Error *error) {
	idx_t columns = duckdb_data_chunk_get_column_count(input), rows = duckdb_data_chunk_get_size(input);
	Buffer vectors = {0};
	bool known = true;
	buffer_put_text(out, name);
	buffer_put_u32(out, (uint32_t)columns);
	for (idx_t i = 0; known && i < columns; i++) {
		duckdb_vector vector = duckdb_data_chunk_get_vector(input, i);
		duckdb_logical_type type = duckdb_vector_get_column_type(vector);
		buffer_put_text(out, "");
		known = put_type(out, type, error);
		if (known) {
			put_vector(&vectors, vector, type, rows);
		}
		duckdb_destroy_logical_type(&type);
	}
	buffer_put_u32(out, (uint32_t)rows);
	buffer_put(out, vectors.data, vectors.size);
	out->failed |= vectors.failed;
	buffer_free(&vectors);
	return known;
}

/* Texts become values in place: BOOLEAN and DOUBLE are read, anything else is a text already. */
static bool set_answer(duckdb_vector output, const char *type, idx_t row, const char *text, size_t length) {
	if (strcmp(type, "BOOLEAN") == 0) {
		((bool *)duckdb_vector_get_data(output))[row] = length == 4 && memcmp(text, "true", 4) == 0;
		return length == 4 || length == 5;
	}
	if (strcmp(type, "DOUBLE") == 0) {
		char number[64] = {0}, *end = number;
		memcpy(number, text, length < sizeof number ? length : sizeof number - 1);
		((double *)duckdb_vector_get_data(output))[row] = strtod(number, &end);
		return length && length < sizeof number && !*end;
	}
	duckdb_vector_assign_string_element_len(output, row, text, length);
	return true;
}

static bool get_answers(const Buffer *reply, duckdb_vector output, const char *type, idx_t rows) {
	Reader in = reader_of(reply);
	const uint8_t *valid = reader_u8(&in) ? reader_take(&in, rows) : NULL;
	const uint8_t *ends = reader_take(&in, sizeof(uint32_t) * (rows + 1));
	duckdb_vector_ensure_validity_writable(output);
	uint64_t *mask = duckdb_vector_get_validity(output);
	for (idx_t row = 0; ends && row < rows; row++) {
		uint32_t bounds[2];
		memcpy(bounds, ends + row * sizeof *bounds, sizeof bounds);
		const uint8_t *text = bounds[0] <= bounds[1] ? reader_take(&in, bounds[1] - bounds[0]) : NULL;
		bool there = !valid || valid[row];
		duckdb_validity_set_row_validity(mask, row, there);
		if (!text || (there && !set_answer(output, type, row, (const char *)text, bounds[1] - bounds[0]))) {
			return false;
		}
	}
	return ends && !in.failed;
}

static bool call(const Function *function, duckdb_data_chunk input, duckdb_vector output, Error *error) {
	Buffer request = {0}, reply = {0};
	uint8_t kind = 0;
	Engine *engine = function->extension->engine;
	int connection = -1;
	bool done = put_arguments(&request, function->name, input, error) &&
	            (connection = engine_connect(engine, error)) >= 0 &&
	            frame_send(connection, FRAME_CALL, &request, error) &&
	            frame_receive(engine, connection, &kind, &reply, error);
	if (connection >= 0) {
		engine_release(engine, connection, done || kind == FRAME_ERROR);
	}
	idx_t rows = duckdb_data_chunk_get_size(input);
	if (done && (kind != FRAME_VALUES || !get_answers(&reply, output, function->type, rows))) {
		done = error_set(error, "the engine of quackllm sent an answer that cannot be read");
	}
	buffer_free(&request);
	buffer_free(&reply);
	return done;
}

static void run(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output) {
	const Function *function = duckdb_scalar_function_get_extra_info(info);
	Error error = {0};
	if (!call(function, input, output, &error)) {
		duckdb_scalar_function_set_error(info, error.text ? error.text : "out of memory");
	}
	error_free(&error);
}

static duckdb_logical_type type_named(const char *name) {
	if (strcmp(name, "BOOLEAN") == 0) {
		return duckdb_create_logical_type(DUCKDB_TYPE_BOOLEAN);
	}
	if (strcmp(name, "DOUBLE") == 0) {
		return duckdb_create_logical_type(DUCKDB_TYPE_DOUBLE);
	}
	duckdb_logical_type type = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
	if (strcmp(name, "JSON") == 0) {
		duckdb_logical_type_set_alias(type, "JSON");
	}
	return type;
}

static bool register_one(duckdb_connection connection, Extension *extension, const char *name, const char *returned) {
	Function *function = malloc(sizeof *function);
	if (!function) {
		return false;
	}
	*function = (Function) {extension_share(extension), name, returned};
	duckdb_scalar_function made = duckdb_create_scalar_function();
	duckdb_logical_type any = duckdb_create_logical_type(DUCKDB_TYPE_ANY);
	duckdb_logical_type type = type_named(returned);
	duckdb_scalar_function_set_name(made, name);
	duckdb_scalar_function_set_varargs(made, any);
	duckdb_scalar_function_set_return_type(made, type);
	duckdb_scalar_function_set_special_handling(made); /* NULLs are for us to judge */
	duckdb_scalar_function_set_volatile(made);         /* EXPLAIN must not run it on constants */
	duckdb_scalar_function_set_extra_info(made, function, function_free);
	duckdb_scalar_function_set_function(made, run);
	bool done = duckdb_register_scalar_function(connection, made) == DuckDBSuccess;
	duckdb_destroy_logical_type(&any);
	duckdb_destroy_logical_type(&type);
	duckdb_destroy_scalar_function(&made);
	return done;
}

bool register_functions(duckdb_connection connection, Extension *extension) {
	bool done = true;
	for (size_t i = 0; done && i < sizeof FUNCTIONS / sizeof *FUNCTIONS; i++) {
		done = register_one(connection, extension, FUNCTIONS[i].name, FUNCTIONS[i].type);
	}
	return done;
}
