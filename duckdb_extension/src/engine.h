/* The engine's process: found or started, and spoken to in frames.
 *
 * A frame is u32 length of the payload, u8 kind, payload. One connection serves one request at a
 * time; closing it in the middle of a request cancels the request.
 */
#ifndef QUACKLLM_ENGINE_H
#define QUACKLLM_ENGINE_H

#include "buffer.h"

enum {
	FRAME_HELLO = 'H',  /* u8 protocol version, text session, text working directory, u32 count and
	                     * the statements to remember: a new engine begins with them */
	FRAME_CALL = 'C',   /* text function, columns, u32 rows, a vector each: answered by VALUES */
	FRAME_BIND = 'B',   /* text SQL: answered by COLUMNS; nothing is run */
	FRAME_RUN = 'X',    /* text SQL: answered by ROWS until END */
	FRAME_OK = 'O',     /* done */
	FRAME_REMEMBER = 'M', /* text SQL that changed a setting; sent before an answer */
	FRAME_VALUES = 'V', /* a vector of VARCHAR */
	FRAME_ERROR = 'E',  /* text */
	FRAME_QUERY = 'Q',  /* the engine asks the shell: text SQL: answered by COLUMNS, ROWS, END */
	FRAME_COLUMNS = 'D', /* u32 count, then text name and type each */
	FRAME_ROWS = 'R',   /* u32 rows, a vector for each column */
	FRAME_END = 'F',    /* no more rows */
};

#define PROTOCOL_VERSION 1
#define MOST_PAYLOAD (1u << 30) /* bytes; neither side takes more */

/* What one loaded extension knows of its engine. */
typedef struct Engine Engine;

Engine *engine_new(void);
void engine_free(Engine *engine);

/* A connection that is ready for a request, -1 when there is none: `error` says why. */
int engine_connect(Engine *engine, Error *error);
/* Takes a connection back; `whole`: its request has been answered to the end. */
void engine_release(Engine *engine, int connection, bool whole);

bool frame_send(int connection, uint8_t kind, const Buffer *payload, Error *error);
/* Waits for a frame; Ctrl-C ends the wait. Sets the error that an ERROR frame brings. */
bool frame_receive(Engine *engine, int connection, uint8_t *kind, Buffer *payload, Error *error);

#endif
