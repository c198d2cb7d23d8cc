/* DuckDB's types and vectors as bytes, and back.
 *
 * type:   u8 code (that of DUCKDB_TYPE, or CODE_JSON), then
 *         DECIMAL u8 width, u8 scale; LIST type; ARRAY u32 size, type; MAP key, value;
 *         STRUCT u32 count, (text name, type)...; ENUM u32 count, text...
 * vector: u8 whether any row is NULL, then if so a byte for each row, 1 for a value; then
 *         fixed width   the values as DuckDB keeps them
 *         DECIMAL       16 bytes each, ENUM u32 each
 *         VARCHAR, BLOB u32 offsets, one more than rows; the bytes
 *         LIST, MAP     u32 offsets likewise; a vector of the entries (MAP: a STRUCT)
 *         ARRAY, STRUCT the vector or vectors of what is inside
 *
 * Numbers are in the machine's own order: both sides run on it.
 */
#ifndef QUACKLLM_VECTORS_H
#define QUACKLLM_VECTORS_H

#include "api.h"
#include "buffer.h"

#define CODE_JSON 100

/* Returns false for a type that has no form here; `error` then names it. */
bool put_type(Buffer *out, duckdb_logical_type type, Error *error);
/* A type for the caller to destroy; NULL when the bytes are none. */
duckdb_logical_type get_type(Reader *in);

void put_vector(Buffer *out, duckdb_vector vector, duckdb_logical_type type, idx_t rows);
/* Fills the first rows of a vector. Returns false when the bytes do not hold so many. */
bool get_vector(Reader *in, duckdb_vector vector, duckdb_logical_type type, idx_t rows);

#endif
