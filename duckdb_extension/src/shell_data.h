/* The shell's own tables, for the engine: queries that run on a connection of the extension's.
 *
 * That connection keeps the database open. A thread looks whether anybody else still has one, and
 * closes it when not, so that `.open` and the end of the shell close the database as ever.
 */
#ifndef QUACKLLM_SHELL_DATA_H
#define QUACKLLM_SHELL_DATA_H

#include "api.h"
#include "buffer.h"

typedef struct ShellData ShellData;

/* Takes the connection over. NULL when there is no memory or no thread. */
ShellData *shell_data_new(duckdb_connection connection);
void shell_data_release(ShellData *shell);

/* Answers a QUERY frame: runs its SQL, sends COLUMNS, ROWS and END, or ERROR. Returns false when
 * the engine cannot be reached. */
bool shell_data_answer(ShellData *shell, int engine, const Buffer *query, Error *error);

#endif
