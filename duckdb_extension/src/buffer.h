/* Bytes of a message: a buffer that grows, a reader that never runs over the end. */
#ifndef QUACKLLM_BUFFER_H
#define QUACKLLM_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
	uint8_t *data;
	size_t size;
	size_t capacity;
	bool failed; /* out of memory; what was put since is lost */
} Buffer;

/* Room for `count` more bytes, counted as there; NULL when memory is out. */
uint8_t *buffer_extend(Buffer *buffer, size_t count);
void buffer_put(Buffer *buffer, const void *bytes, size_t count);
void buffer_put_u8(Buffer *buffer, uint8_t value);
void buffer_put_u32(Buffer *buffer, uint32_t value);
/* The length of a text as u32, then its bytes. */
void buffer_put_text(Buffer *buffer, const char *text);
void buffer_free(Buffer *buffer);

typedef struct {
	const uint8_t *at;
	const uint8_t *end;
	bool failed; /* more was asked for than there is */
} Reader;

Reader reader_of(const Buffer *buffer);
/* The next `count` bytes; NULL when there are fewer. */
const uint8_t *reader_take(Reader *reader, size_t count);
uint8_t reader_u8(Reader *reader);
uint32_t reader_u32(Reader *reader);
/* A text, for the caller to free(); NULL when it is not there. */
char *reader_text(Reader *reader);

/* What went wrong, for people. */
typedef struct {
	char *text; /* free() it; NULL: nothing */
} Error;

/* Sets the text unless there is one; always returns false. */
bool error_set(Error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
void error_free(Error *error);

#endif
