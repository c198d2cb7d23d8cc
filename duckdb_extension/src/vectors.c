#include "vectors.h"

#include <stdlib.h>
#include <string.h>

#define WIDE 16 /* bytes of a DECIMAL, whatever its width */

static size_t fixed_width(duckdb_type id) {
	switch (id) {
	case DUCKDB_TYPE_BOOLEAN:
	case DUCKDB_TYPE_TINYINT:
	case DUCKDB_TYPE_UTINYINT:
		return 1;
	case DUCKDB_TYPE_SMALLINT:
	case DUCKDB_TYPE_USMALLINT:
		return 2;
	case DUCKDB_TYPE_INTEGER:
	case DUCKDB_TYPE_UINTEGER:
	case DUCKDB_TYPE_FLOAT:
	case DUCKDB_TYPE_DATE:
		return 4;
	case DUCKDB_TYPE_BIGINT:
	case DUCKDB_TYPE_UBIGINT:
	case DUCKDB_TYPE_DOUBLE:
	case DUCKDB_TYPE_TIME:
	case DUCKDB_TYPE_TIMESTAMP:
	case DUCKDB_TYPE_TIMESTAMP_S:
	case DUCKDB_TYPE_TIMESTAMP_MS:
	case DUCKDB_TYPE_TIMESTAMP_NS:
	case DUCKDB_TYPE_TIMESTAMP_TZ:
		return 8;
	case DUCKDB_TYPE_HUGEINT:
	case DUCKDB_TYPE_UUID:
	case DUCKDB_TYPE_INTERVAL:
		return 16;
	default:
		return 0;
	}
}

static size_t integer_width(duckdb_type id) {
	return id == DUCKDB_TYPE_HUGEINT ? WIDE : fixed_width(id);
}

static bool is_text(duckdb_type id) {
	return id == DUCKDB_TYPE_VARCHAR || id == DUCKDB_TYPE_BLOB;
}

static bool is_json(duckdb_logical_type type) {
	char *alias = duckdb_logical_type_get_alias(type);
	bool json = alias && strcmp(alias, "JSON") == 0;
	duckdb_free(alias);
	return json;
}

/* Types */

static bool put_inner(Buffer *out, duckdb_logical_type inner, Error *error) {
	bool done = put_type(out, inner, error);
	duckdb_destroy_logical_type(&inner);
	return done;
}

static bool put_struct(Buffer *out, duckdb_logical_type type, Error *error) {
	idx_t count = duckdb_struct_type_child_count(type);
	buffer_put_u32(out, (uint32_t)count);
	for (idx_t i = 0; i < count; i++) {
		char *name = duckdb_struct_type_child_name(type, i);
		buffer_put_text(out, name);
		duckdb_free(name);
		if (!put_inner(out, duckdb_struct_type_child_type(type, i), error)) {
			return false;
		}
	}
	return true;
}

static void put_enum(Buffer *out, duckdb_logical_type type) {
	uint32_t count = duckdb_enum_dictionary_size(type);
	buffer_put_u32(out, count);
	for (uint32_t i = 0; i < count; i++) {
		char *value = duckdb_enum_dictionary_value(type, i);
		buffer_put_text(out, value);
		duckdb_free(value);
	}
}

bool put_type(Buffer *out, duckdb_logical_type type, Error *error) {
	duckdb_type id = duckdb_get_type_id(type);
	if (id == DUCKDB_TYPE_VARCHAR && is_json(type)) {
		buffer_put_u8(out, CODE_JSON);
		return true;
	}
	buffer_put_u8(out, (uint8_t)id);
	if (fixed_width(id) || is_text(id) || id == DUCKDB_TYPE_SQLNULL) {
		return true;
	}
	switch (id) {
	case DUCKDB_TYPE_DECIMAL:
		buffer_put_u8(out, duckdb_decimal_width(type));
		buffer_put_u8(out, duckdb_decimal_scale(type));
		return true;
	case DUCKDB_TYPE_ENUM:
		put_enum(out, type);
		return true;
	case DUCKDB_TYPE_LIST:
		return put_inner(out, duckdb_list_type_child_type(type), error);
	case DUCKDB_TYPE_ARRAY:
		buffer_put_u32(out, (uint32_t)duckdb_array_type_array_size(type));
		return put_inner(out, duckdb_array_type_child_type(type), error);
	case DUCKDB_TYPE_MAP:
		return put_inner(out, duckdb_map_type_key_type(type), error) &&
		       put_inner(out, duckdb_map_type_value_type(type), error);
	case DUCKDB_TYPE_STRUCT:
		return put_struct(out, type, error);
	default:
		return error_set(error, "a value of this type (number %d in DuckDB's C API) cannot be handed over: "
		                        "cast it to VARCHAR", (int)id);
	}
}

static duckdb_logical_type get_struct(Reader *in) {
	uint32_t count = reader_u32(in);
	if (in->failed || count > (size_t)(in->end - in->at)) {
		return NULL;
	}
	char **names = calloc(count ? count : 1, sizeof *names);
	duckdb_logical_type *types = calloc(count ? count : 1, sizeof *types);
	bool whole = names && types;
	for (uint32_t i = 0; whole && i < count; i++) {
		names[i] = reader_text(in);
		types[i] = names[i] ? get_type(in) : NULL;
		whole = types[i] != NULL;
	}
	duckdb_logical_type made = whole ? duckdb_create_struct_type(types, (const char **)names, count) : NULL;
	for (uint32_t i = 0; names && types && i < count; i++) {
		free(names[i]);
		duckdb_destroy_logical_type(&types[i]);
	}
	free(names);
	free(types);
	return made;
}

static duckdb_logical_type get_enum(Reader *in) {
	uint32_t count = reader_u32(in);
	if (in->failed || count > (size_t)(in->end - in->at)) {
		return NULL;
	}
	char **names = calloc(count ? count : 1, sizeof *names);
	bool whole = names != NULL;
	for (uint32_t i = 0; whole && i < count; i++) {
		names[i] = reader_text(in);
		whole = names[i] != NULL;
	}
	duckdb_logical_type made = whole ? duckdb_create_enum_type((const char **)names, count) : NULL;
	for (uint32_t i = 0; names && i < count; i++) {
		free(names[i]);
	}
	free(names);
	return made;
}

static duckdb_logical_type get_container(Reader *in, duckdb_type id) {
	idx_t size = id == DUCKDB_TYPE_ARRAY ? reader_u32(in) : 0;
	duckdb_logical_type first = get_type(in);
	duckdb_logical_type second = first && id == DUCKDB_TYPE_MAP ? get_type(in) : NULL;
	duckdb_logical_type made = NULL;
	if (first && id == DUCKDB_TYPE_LIST) {
		made = duckdb_create_list_type(first);
	} else if (first && id == DUCKDB_TYPE_ARRAY) {
		made = duckdb_create_array_type(first, size);
	} else if (second) {
		made = duckdb_create_map_type(first, second);
	}
	duckdb_destroy_logical_type(&first);
	duckdb_destroy_logical_type(&second);
	return made;
}

duckdb_logical_type get_type(Reader *in) {
	uint8_t code = reader_u8(in);
	if (in->failed) {
		return NULL;
	}
	duckdb_type id = (duckdb_type)code;
	if (code == CODE_JSON) {
		duckdb_logical_type type = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
		duckdb_logical_type_set_alias(type, "JSON");
		return type;
	}
	if (id == DUCKDB_TYPE_DECIMAL) {
		uint8_t width = reader_u8(in);
		return duckdb_create_decimal_type(width, reader_u8(in));
	}
	if (id == DUCKDB_TYPE_STRUCT) {
		return get_struct(in);
	}
	if (id == DUCKDB_TYPE_ENUM) {
		return get_enum(in);
	}
	if (id == DUCKDB_TYPE_LIST || id == DUCKDB_TYPE_ARRAY || id == DUCKDB_TYPE_MAP) {
		return get_container(in, id);
	}
	return fixed_width(id) || is_text(id) ? duckdb_create_logical_type(id) : NULL;
}

/* Vectors to bytes. `rows` are the positions that are put, NULL for the first `count`;
 * `outer` says of each whether what it is inside of is there, NULL for all. */

typedef struct {
	const idx_t *rows;
	idx_t count;
	const uint8_t *outer;
} Selection;

static idx_t row_of(const Selection *selection, idx_t i) {
	return selection->rows ? selection->rows[i] : i;
}

static void put_selected(Buffer *out, duckdb_vector vector, duckdb_logical_type type, const Selection *selection);

/* Writes which rows are there; returns one byte a row to free(), NULL when all are. */
static uint8_t *put_validity(Buffer *out, duckdb_vector vector, const Selection *selection) {
	uint64_t *mask = duckdb_vector_get_validity(vector);
	uint8_t *valid = mask || selection->outer ? malloc(selection->count ? selection->count : 1) : NULL;
	if (!valid) {
		out->failed |= mask || selection->outer;
		buffer_put_u8(out, 0);
		return NULL;
	}
	for (idx_t i = 0; i < selection->count; i++) {
		bool there = !mask || duckdb_validity_row_is_valid(mask, row_of(selection, i));
		valid[i] = there && (!selection->outer || selection->outer[i]);
	}
	buffer_put_u8(out, 1);
	buffer_put(out, valid, selection->count);
	return valid;
}

static void put_fixed(Buffer *out, const uint8_t *data, size_t width, const Selection *selection) {
	if (!selection->rows) {
		buffer_put(out, data, width * selection->count);
		return;
	}
	uint8_t *place = buffer_extend(out, width * selection->count);
	for (idx_t i = 0; place && i < selection->count; i++) {
		memcpy(place + i * width, data + selection->rows[i] * width, width);
	}
}

static int64_t signed_at(const uint8_t *data, size_t width, idx_t row) {
	if (width == 2) {
		return ((const int16_t *)data)[row];
	}
	return width == 4 ? ((const int32_t *)data)[row] : ((const int64_t *)data)[row];
}

static void put_decimal(Buffer *out, const uint8_t *data, size_t width, const Selection *selection) {
	uint8_t *place = buffer_extend(out, WIDE * selection->count);
	for (idx_t i = 0; place && i < selection->count; i++, place += WIDE) {
		idx_t row = row_of(selection, i);
		if (width == WIDE) {
			memcpy(place, data + row * WIDE, WIDE);
			continue;
		}
		__extension__ __int128 wide = signed_at(data, width, row);
		memcpy(place, &wide, WIDE);
	}
}

static void put_enum_values(Buffer *out, const uint8_t *data, size_t width, const Selection *selection) {
	for (idx_t i = 0; i < selection->count; i++) {
		uint32_t value = 0;
		memcpy(&value, data + row_of(selection, i) * width, width);
		buffer_put_u32(out, value);
	}
}

static void put_texts(Buffer *out, duckdb_string_t *texts, const uint8_t *valid, const Selection *selection) {
	size_t start = out->size;
	buffer_extend(out, sizeof(uint32_t) * (selection->count + 1));
	uint32_t end = 0;
	for (idx_t i = 0; i <= selection->count && !out->failed; i++) {
		memcpy(out->data + start + i * sizeof end, &end, sizeof end);
		if (i < selection->count && (!valid || valid[i])) {
			duckdb_string_t *text = &texts[row_of(selection, i)];
			uint32_t length = duckdb_string_t_length(*text);
			out->failed |= length > UINT32_MAX - end;
			buffer_put(out, duckdb_string_t_data(text), length);
			end += length;
		}
	}
}

static void put_map_entries(Buffer *out, duckdb_vector entries, duckdb_logical_type map, const Selection *inside) {
	duckdb_logical_type key = duckdb_map_type_key_type(map);
	duckdb_logical_type value = duckdb_map_type_value_type(map);
	buffer_put_u8(out, 0);
	put_selected(out, duckdb_struct_vector_get_child(entries, 0), key, inside);
	put_selected(out, duckdb_struct_vector_get_child(entries, 1), value, inside);
	duckdb_destroy_logical_type(&key);
	duckdb_destroy_logical_type(&value);
}

static void put_list(Buffer *out, duckdb_vector vector, duckdb_logical_type type, const uint8_t *valid,
                     const Selection *selection) {
	const duckdb_list_entry *lists = duckdb_vector_get_data(vector);
	idx_t total = 0;
	for (idx_t i = 0; i <= selection->count; i++) {
		buffer_put_u32(out, (uint32_t)total);
		out->failed |= total > UINT32_MAX;
		if (i < selection->count && (!valid || valid[i])) {
			total += lists[row_of(selection, i)].length;
		}
	}
	idx_t *rows = malloc((total ? total : 1) * sizeof *rows);
	if (!rows) {
		out->failed = true;
		return;
	}
	idx_t at = 0;
	for (idx_t i = 0; i < selection->count; i++) {
		duckdb_list_entry list = lists[row_of(selection, i)];
		for (idx_t k = 0; (!valid || valid[i]) && k < list.length; k++) {
			rows[at++] = list.offset + k;
		}
	}
	Selection inside = {rows, total, NULL};
	duckdb_vector entries = duckdb_list_vector_get_child(vector);
	if (duckdb_get_type_id(type) == DUCKDB_TYPE_MAP) {
		put_map_entries(out, entries, type, &inside);
	} else {
		duckdb_logical_type inner = duckdb_list_type_child_type(type);
		put_selected(out, entries, inner, &inside);
		duckdb_destroy_logical_type(&inner);
	}
	free(rows);
}

static void put_array(Buffer *out, duckdb_vector vector, duckdb_logical_type type, const uint8_t *valid,
                      const Selection *selection) {
	idx_t size = duckdb_array_type_array_size(type), total = size * selection->count;
	idx_t *rows = malloc((total ? total : 1) * sizeof *rows);
	uint8_t *outer = valid ? malloc(total ? total : 1) : NULL;
	if (!rows || (valid && !outer)) {
		out->failed = true;
	}
	for (idx_t i = 0; !out->failed && i < total; i++) {
		rows[i] = row_of(selection, i / size) * size + i % size;
		if (outer) {
			outer[i] = valid[i / size];
		}
	}
	if (!out->failed) {
		Selection inside = {rows, total, outer};
		duckdb_logical_type inner = duckdb_array_type_child_type(type);
		put_selected(out, duckdb_array_vector_get_child(vector), inner, &inside);
		duckdb_destroy_logical_type(&inner);
	}
	free(rows);
	free(outer);
}

static void put_nested(Buffer *out, duckdb_vector vector, duckdb_logical_type type, const uint8_t *valid,
                       const Selection *selection) {
	switch (duckdb_get_type_id(type)) {
	case DUCKDB_TYPE_LIST:
	case DUCKDB_TYPE_MAP:
		put_list(out, vector, type, valid, selection);
		return;
	case DUCKDB_TYPE_ARRAY:
		put_array(out, vector, type, valid, selection);
		return;
	default:
		break;
	}
	Selection inside = {selection->rows, selection->count, valid};
	idx_t count = duckdb_struct_type_child_count(type);
	for (idx_t i = 0; i < count; i++) {
		duckdb_logical_type inner = duckdb_struct_type_child_type(type, i);
		put_selected(out, duckdb_struct_vector_get_child(vector, i), inner, &inside);
		duckdb_destroy_logical_type(&inner);
	}
}

static void put_selected(Buffer *out, duckdb_vector vector, duckdb_logical_type type, const Selection *selection) {
	duckdb_type id = duckdb_get_type_id(type);
	uint8_t *valid = put_validity(out, vector, selection);
	uint8_t *data = duckdb_vector_get_data(vector);
	size_t width = fixed_width(id);
	if (width) {
		put_fixed(out, data, width, selection);
	} else if (is_text(id)) {
		put_texts(out, (duckdb_string_t *)data, valid, selection);
	} else if (id == DUCKDB_TYPE_DECIMAL) {
		put_decimal(out, data, integer_width(duckdb_decimal_internal_type(type)), selection);
	} else if (id == DUCKDB_TYPE_ENUM) {
		put_enum_values(out, data, fixed_width(duckdb_enum_internal_type(type)), selection);
	} else if (id != DUCKDB_TYPE_SQLNULL) {
		put_nested(out, vector, type, valid, selection);
	}
	free(valid);
}

void put_vector(Buffer *out, duckdb_vector vector, duckdb_logical_type type, idx_t rows) {
	Selection all = {NULL, rows, NULL};
	put_selected(out, vector, type, &all);
}

/* Bytes to vectors */

static bool get_validity(Reader *in, duckdb_vector vector, idx_t rows) {
	if (!reader_u8(in)) {
		return !in->failed;
	}
	const uint8_t *valid = reader_take(in, rows);
	if (!valid) {
		return false;
	}
	duckdb_vector_ensure_validity_writable(vector);
	uint64_t *mask = duckdb_vector_get_validity(vector);
	for (idx_t i = 0; i < rows; i++) {
		duckdb_validity_set_row_validity(mask, i, valid[i]);
	}
	return true;
}

static bool get_narrowed(Reader *in, uint8_t *data, size_t from, size_t to, idx_t rows) {
	const uint8_t *bytes = reader_take(in, from * rows);
	for (idx_t i = 0; bytes && i < rows; i++) {
		memcpy(data + i * to, bytes + i * from, to); /* little endian: the low bytes come first */
	}
	return bytes != NULL;
}

static bool get_booleans(Reader *in, bool *data, idx_t rows) {
	const uint8_t *bytes = reader_take(in, rows);
	for (idx_t i = 0; bytes && i < rows; i++) {
		data[i] = bytes[i] != 0;
	}
	return bytes != NULL;
}

/* Positions in the ENUM's dictionary. */
static bool get_enum_values(Reader *in, uint8_t *data, duckdb_logical_type type, idx_t rows) {
	const uint8_t *bytes = reader_take(in, sizeof(uint32_t) * rows);
	size_t width = fixed_width(duckdb_enum_internal_type(type));
	uint32_t size = duckdb_enum_dictionary_size(type);
	for (idx_t i = 0; bytes && i < rows; i++) {
		uint32_t value;
		memcpy(&value, bytes + i * sizeof value, sizeof value);
		if (value >= size && value != 0) { /* a NULL may be 0 in an ENUM without values */
			return false;
		}
		memcpy(data + i * width, &value, width); /* little endian: the low bytes come first */
	}
	return bytes != NULL;
}

/* Offsets from 0, one more than rows, that neither go down nor beyond what is left of the message;
 * NULL when they are not there. */
static uint32_t *get_offsets(Reader *in, idx_t rows) {
	const uint8_t *bytes = reader_take(in, sizeof(uint32_t) * (rows + 1));
	uint32_t *offsets = bytes ? malloc(sizeof(uint32_t) * (rows + 1)) : NULL;
	if (!offsets) {
		return NULL;
	}
	memcpy(offsets, bytes, sizeof(uint32_t) * (rows + 1));
	bool whole = offsets[0] == 0 && offsets[rows] <= (size_t)(in->end - in->at);
	for (idx_t i = 0; whole && i < rows; i++) {
		whole = offsets[i] <= offsets[i + 1];
	}
	if (!whole) {
		free(offsets);
		return NULL;
	}
	return offsets;
}

static bool get_texts(Reader *in, duckdb_vector vector, idx_t rows) {
	uint32_t *offsets = get_offsets(in, rows);
	const uint8_t *bytes = offsets ? reader_take(in, offsets[rows]) : NULL;
	for (idx_t i = 0; bytes && i < rows; i++) {
		const char *text = (const char *)bytes + offsets[i];
		duckdb_vector_assign_string_element_len(vector, i, text, offsets[i + 1] - offsets[i]);
	}
	free(offsets);
	return bytes != NULL;
}

static bool get_inner(Reader *in, duckdb_vector vector, duckdb_logical_type inner, idx_t rows) {
	bool done = get_vector(in, vector, inner, rows);
	duckdb_destroy_logical_type(&inner);
	return done;
}

static bool get_list(Reader *in, duckdb_vector vector, duckdb_logical_type type, idx_t rows) {
	uint32_t *offsets = get_offsets(in, rows);
	if (!offsets) {
		return false;
	}
	duckdb_list_entry *lists = duckdb_vector_get_data(vector);
	for (idx_t i = 0; i < rows; i++) {
		lists[i] = (duckdb_list_entry) {offsets[i], offsets[i + 1] - offsets[i]};
	}
	idx_t total = offsets[rows];
	free(offsets);
	if (duckdb_list_vector_reserve(vector, total) != DuckDBSuccess ||
	    duckdb_list_vector_set_size(vector, total) != DuckDBSuccess) {
		return false;
	}
	duckdb_vector entries = duckdb_list_vector_get_child(vector);
	if (duckdb_get_type_id(type) == DUCKDB_TYPE_LIST) {
		return get_inner(in, entries, duckdb_list_type_child_type(type), total);
	}
	duckdb_vector keys = duckdb_struct_vector_get_child(entries, 0);
	duckdb_vector values = duckdb_struct_vector_get_child(entries, 1);
	return get_validity(in, entries, total) &&
	       get_inner(in, keys, duckdb_map_type_key_type(type), total) &&
	       get_inner(in, values, duckdb_map_type_value_type(type), total);
}

static bool get_struct_children(Reader *in, duckdb_vector vector, duckdb_logical_type type, idx_t rows) {
	idx_t count = duckdb_struct_type_child_count(type);
	for (idx_t i = 0; i < count; i++) {
		duckdb_vector child = duckdb_struct_vector_get_child(vector, i);
		if (!get_inner(in, child, duckdb_struct_type_child_type(type, i), rows)) {
			return false;
		}
	}
	return true;
}

bool get_vector(Reader *in, duckdb_vector vector, duckdb_logical_type type, idx_t rows) {
	duckdb_type id = duckdb_get_type_id(type);
	uint8_t *data = duckdb_vector_get_data(vector);
	size_t width = fixed_width(id);
	if (!get_validity(in, vector, rows)) {
		return false;
	}
	if (width && id != DUCKDB_TYPE_BOOLEAN) {
		return get_narrowed(in, data, width, width, rows);
	}
	switch (id) {
	case DUCKDB_TYPE_BOOLEAN:
		return get_booleans(in, (bool *)data, rows);
	case DUCKDB_TYPE_VARCHAR:
	case DUCKDB_TYPE_BLOB:
		return get_texts(in, vector, rows);
	case DUCKDB_TYPE_DECIMAL:
		return get_narrowed(in, data, WIDE, integer_width(duckdb_decimal_internal_type(type)), rows);
	case DUCKDB_TYPE_ENUM:
		return get_enum_values(in, data, type, rows);
	case DUCKDB_TYPE_LIST:
	case DUCKDB_TYPE_MAP:
		return get_list(in, vector, type, rows);
	case DUCKDB_TYPE_ARRAY:
		return get_inner(in, duckdb_array_vector_get_child(vector), duckdb_array_type_child_type(type),
		                 rows * duckdb_array_type_array_size(type));
	case DUCKDB_TYPE_STRUCT:
		return get_struct_children(in, vector, type, rows);
	default:
		return false;
	}
}
