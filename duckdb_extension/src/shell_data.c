#include "shell_data.h"

#include "engine.h"
#include "vectors.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define LOOK_NANOSECONDS 300000000
#define NANOSECONDS 1000000000

struct ShellData {
	atomic_int references;
	pthread_mutex_t guard;        /* of the connection, which runs one query at a time; checks for
	                               * a thread that waits for itself */
	duckdb_connection connection; /* NULL: closed, and with it the database */
	pthread_t keeper;
	ShellData *next;
};

/* Those of this process whose keeper runs. DuckDB writes its database file when the last connection
 * is closed. At the end of the process that has to be before the end of DuckDB's own statics, and
 * in a thread other than the first, whose thread-local variables are gone by then. */
static pthread_mutex_t kept_guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t kept_changed = PTHREAD_COND_INITIALIZER;
static ShellData *kept;
static bool exiting;

static void close_connection(ShellData *shell) {
	pthread_mutex_lock(&shell->guard);
	duckdb_connection connection = shell->connection;
	shell->connection = NULL;
	pthread_mutex_unlock(&shell->guard);
	if (connection) {
		duckdb_disconnect(&connection);
	}
}

static bool has_other_connections(ShellData *shell) {
	duckdb_result result = {0};
	bool others = true;
	pthread_mutex_lock(&shell->guard);
	if (duckdb_query(shell->connection, "FROM duckdb_connection_count()", &result) == DuckDBSuccess) {
		duckdb_data_chunk chunk = duckdb_fetch_chunk(result);
		uint64_t *count = chunk ? duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0)) : NULL;
		others = !count || *count > 1;
		duckdb_destroy_data_chunk(&chunk);
	}
	duckdb_destroy_result(&result);
	pthread_mutex_unlock(&shell->guard);
	return others;
}

/* Waits until the next look is due; false when the process ends. */
static bool wait_for_next_look(void) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += LOOK_NANOSECONDS;
	until.tv_sec += until.tv_nsec / NANOSECONDS;
	until.tv_nsec %= NANOSECONDS;
	pthread_mutex_lock(&kept_guard);
	for (int waited = 0; !exiting && waited == 0;) {
		waited = pthread_cond_timedwait(&kept_changed, &kept_guard, &until);
	}
	bool goes_on = !exiting;
	pthread_mutex_unlock(&kept_guard);
	return goes_on;
}

/* Nobody will join a keeper that has ended before the process. */
static void forget(ShellData *shell) {
	pthread_mutex_lock(&kept_guard);
	ShellData **place = &kept;
	while (!exiting && *place && *place != shell) {
		place = &(*place)->next;
	}
	bool found = !exiting && *place;
	if (found) {
		*place = shell->next;
		pthread_detach(shell->keeper);
	}
	pthread_mutex_unlock(&kept_guard);
	if (found) {
		shell_data_release(shell);
	}
}

static void *keep(void *given) {
	ShellData *shell = given;
	while (wait_for_next_look() && has_other_connections(shell)) {
	}
	close_connection(shell);
	forget(shell);
	shell_data_release(shell);
	return NULL;
}

static void close_all(void) {
	pthread_mutex_lock(&kept_guard);
	exiting = true;
	pthread_cond_broadcast(&kept_changed);
	ShellData *shell = kept;
	kept = NULL;
	pthread_mutex_unlock(&kept_guard);
	while (shell) {
		ShellData *next = shell->next;
		pthread_join(shell->keeper, NULL);
		shell_data_release(shell);
		shell = next;
	}
}

static void register_close_all(void) {
	atexit(close_all);
}

/* Starts the keeper, which shares the shell; so does the list. */
static bool start_keeper(ShellData *shell) {
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	sigset_t all, before;
	pthread_once(&once, register_close_all);
	sigfillset(&all); /* signals are the shell's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_mutex_lock(&kept_guard);
	bool started = !exiting && pthread_create(&shell->keeper, NULL, keep, shell) == 0;
	if (started) {
		atomic_fetch_add(&shell->references, 2);
		shell->next = kept;
		kept = shell;
	}
	pthread_mutex_unlock(&kept_guard);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return started;
}

ShellData *shell_data_new(duckdb_connection connection) {
	ShellData *shell = calloc(1, sizeof *shell);
	if (!shell) {
		return NULL;
	}
	atomic_init(&shell->references, 1);
	pthread_mutexattr_t checked;
	pthread_mutexattr_init(&checked);
	pthread_mutexattr_settype(&checked, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&shell->guard, &checked);
	pthread_mutexattr_destroy(&checked);
	shell->connection = connection;
	if (!start_keeper(shell)) {
		shell_data_release(shell);
		return NULL;
	}
	return shell;
}

void shell_data_release(ShellData *shell) {
	if (atomic_fetch_sub(&shell->references, 1) == 1) {
		pthread_mutex_destroy(&shell->guard);
		free(shell);
	}
}

/* Answers */

static bool put_columns(Buffer *out, duckdb_result *result, Error *error) {
	idx_t count = duckdb_column_count(result);
	buffer_put_u32(out, (uint32_t)count);
	for (idx_t i = 0; i < count; i++) {
		duckdb_logical_type type = duckdb_column_logical_type(result, i);
		buffer_put_text(out, duckdb_column_name(result, i));
		bool known = put_type(out, type, error);
		duckdb_destroy_logical_type(&type);
		if (!known) {
			return false;
		}
	}
	return true;
}

static void put_chunk(Buffer *out, duckdb_data_chunk chunk) {
	idx_t rows = duckdb_data_chunk_get_size(chunk);
	buffer_put_u32(out, (uint32_t)rows);
	for (idx_t i = 0; i < duckdb_data_chunk_get_column_count(chunk); i++) {
		duckdb_vector vector = duckdb_data_chunk_get_vector(chunk, i);
		duckdb_logical_type type = duckdb_vector_get_column_type(vector);
		put_vector(out, vector, type, rows);
		duckdb_destroy_logical_type(&type);
	}
}

static bool send_error(int engine, Error *shown, Error *error) {
	Buffer message = {0};
	buffer_put_text(&message, shown->text ? shown->text : "out of memory");
	bool sent = frame_send(engine, FRAME_ERROR, &message, error);
	buffer_free(&message);
	error_free(shown);
	return sent;
}

static bool send_rows(int engine, duckdb_result result, Error *error) {
	Buffer message = {0};
	bool sent = true;
	for (duckdb_data_chunk chunk; sent && (chunk = duckdb_fetch_chunk(result));) {
		message.size = 0;
		put_chunk(&message, chunk);
		duckdb_destroy_data_chunk(&chunk);
		sent = frame_send(engine, FRAME_ROWS, &message, error);
	}
	buffer_free(&message);
	return sent && frame_send(engine, FRAME_END, NULL, error);
}

static bool send_result(int engine, duckdb_result *result, Error *error) {
	Buffer columns = {0};
	Error unknown = {0};
	bool sent = put_columns(&columns, result, &unknown)
	                ? frame_send(engine, FRAME_COLUMNS, &columns, error) && send_rows(engine, *result, error)
	                : send_error(engine, &unknown, error);
	buffer_free(&columns);
	return sent;
}

/* Needs the guard. */
static bool run_query(ShellData *shell, int engine, const char *sql, Error *error) {
	duckdb_result result = {0};
	Error shown = {0};
	bool sent;
	if (!shell->connection) {
		error_set(&shown, "the shell's database is closed");
		sent = send_error(engine, &shown, error);
	} else if (duckdb_query(shell->connection, sql, &result) == DuckDBSuccess) {
		sent = send_result(engine, &result, error);
	} else {
		const char *text = duckdb_result_error(&result);
		error_set(&shown, "%s", text ? text : "the query failed");
		sent = send_error(engine, &shown, error);
	}
	duckdb_destroy_result(&result);
	return sent;
}

bool shell_data_answer(ShellData *shell, int engine, const Buffer *query, Error *error) {
	Reader in = reader_of(query);
	Error shown = {0};
	bool sent = false;
	char *sql = reader_text(&in);
	if (!sql) {
		error_set(error, "the engine of quackllm sent a query that cannot be read");
	} else if (pthread_mutex_lock(&shell->guard) == EDEADLK) {
		error_set(&shown, "a view over llm(...) cannot be read inside of llm(...): make a table of it");
		sent = send_error(engine, &shown, error);
	} else {
		sent = run_query(shell, engine, sql, error);
		pthread_mutex_unlock(&shell->guard);
	}
	free(sql);
	return sent;
}
