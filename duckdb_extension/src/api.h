/* DuckDB's C API as extensions see it: functions through a table that DuckDB hands over. */
#ifndef QUACKLLM_API_H
#define QUACKLLM_API_H

#include "duckdb_extension.h"

DUCKDB_EXTENSION_EXTERN

#endif
