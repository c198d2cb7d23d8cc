/* LOAD quackllm: where DuckDB enters. */
#include "extension.h"

#include <stdlib.h>

Extension *extension_share(Extension *extension) {
	atomic_fetch_add(&extension->references, 1);
	return extension;
}

void extension_release(Extension *extension) {
	if (atomic_fetch_sub(&extension->references, 1) == 1) {
		if (extension->engine) {
			engine_free(extension->engine);
		}
		if (extension->shell) {
			shell_data_release(extension->shell);
		}
		free(extension);
	}
}

static Extension *extension_new(duckdb_database database) {
	Extension *extension = calloc(1, sizeof *extension);
	if (!extension) {
		return NULL;
	}
	atomic_init(&extension->references, 1);
	extension->engine = engine_new();
	duckdb_connection connection = NULL;
	if (duckdb_connect(database, &connection) == DuckDBSuccess) {
		extension->shell = shell_data_new(connection);
		if (!extension->shell) {
			duckdb_disconnect(&connection);
		}
	}
	if (!extension->engine || !extension->shell) {
		extension_release(extension);
		return NULL;
	}
	return extension;
}

DUCKDB_EXTENSION_ENTRYPOINT_CUSTOM(duckdb_extension_info info, struct duckdb_extension_access *access) {
	duckdb_database *database = access->get_database(info);
	duckdb_connection connection = NULL;
	Extension *extension = database ? extension_new(*database) : NULL;
	bool done = extension && duckdb_connect(*database, &connection) == DuckDBSuccess &&
	            register_functions(connection, extension) && register_llm(connection, extension);
	if (connection) {
		duckdb_disconnect(&connection);
	}
	if (extension) {
		extension_release(extension);
	}
	if (!done) {
		access->set_error(info, "quackllm cannot register its functions; perhaps others have their names");
	}
	return done;
}
