#include "buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint8_t *buffer_extend(Buffer *buffer, size_t count) {
	if (buffer->failed) {
		return NULL;
	}
	if (buffer->capacity - buffer->size < count) {
		size_t wanted = buffer->capacity ? buffer->capacity : 1024;
		while (wanted - buffer->size < count && wanted <= SIZE_MAX / 2) {
			wanted *= 2;
		}
		uint8_t *grown = wanted - buffer->size < count ? NULL : realloc(buffer->data, wanted);
		if (!grown) {
			buffer->failed = true;
			return NULL;
		}
		buffer->data = grown;
		buffer->capacity = wanted;
	}
	uint8_t *place = buffer->data + buffer->size;
	buffer->size += count;
	return place;
}

void buffer_put(Buffer *buffer, const void *bytes, size_t count) {
	uint8_t *place = buffer_extend(buffer, count);
	if (place && count) {
		memcpy(place, bytes, count);
	}
}

void buffer_put_u8(Buffer *buffer, uint8_t value) {
	buffer_put(buffer, &value, sizeof value);
}

void buffer_put_u32(Buffer *buffer, uint32_t value) {
	buffer_put(buffer, &value, sizeof value);
}

void buffer_put_text(Buffer *buffer, const char *text) {
	size_t length = strlen(text);
	buffer_put_u32(buffer, (uint32_t)length);
	buffer_put(buffer, text, length);
}

void buffer_free(Buffer *buffer) {
	free(buffer->data);
	*buffer = (Buffer) {0};
}

Reader reader_of(const Buffer *buffer) {
	return (Reader) {buffer->data, buffer->data + buffer->size, false};
}

const uint8_t *reader_take(Reader *reader, size_t count) {
	if (reader->failed || (size_t)(reader->end - reader->at) < count) {
		reader->failed = true;
		return NULL;
	}
	const uint8_t *taken = reader->at;
	reader->at += count;
	return taken;
}

uint8_t reader_u8(Reader *reader) {
	const uint8_t *byte = reader_take(reader, 1);
	return byte ? *byte : 0;
}

uint32_t reader_u32(Reader *reader) {
	uint32_t value = 0;
	const uint8_t *bytes = reader_take(reader, sizeof value);
	if (bytes) {
		memcpy(&value, bytes, sizeof value);
	}
	return value;
}

char *reader_text(Reader *reader) {
	uint32_t length = reader_u32(reader);
	const uint8_t *bytes = reader_take(reader, length);
	char *text = bytes ? malloc((size_t)length + 1) : NULL;
	if (!text) {
		reader->failed = true;
		return NULL;
	}
	memcpy(text, bytes, length);
	text[length] = '\0';
	return text;
}

bool error_set(Error *error, const char *format, ...) {
	if (error->text) {
		return false;
	}
	va_list arguments, again;
	va_start(arguments, format);
	va_copy(again, arguments);
	int length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	error->text = length < 0 ? NULL : malloc((size_t)length + 1);
	if (error->text) {
		vsnprintf(error->text, (size_t)length + 1, format, again);
	}
	va_end(again);
	return false;
}

void error_free(Error *error) {
	free(error->text);
	error->text = NULL;
}
