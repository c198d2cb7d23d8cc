/* What the parts of the extension share. */
#ifndef QUACKLLM_EXTENSION_H
#define QUACKLLM_EXTENSION_H

#include "api.h"
#include "engine.h"
#include "shell_data.h"

#include <stdatomic.h>

/* One database that has loaded the extension; every function that is registered holds it. */
typedef struct {
	atomic_int references;
	Engine *engine;
	ShellData *shell;
} Extension;

Extension *extension_share(Extension *extension);
void extension_release(Extension *extension);

bool register_functions(duckdb_connection connection, Extension *extension);
bool register_llm(duckdb_connection connection, Extension *extension);

#endif
