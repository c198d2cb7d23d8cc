#define _GNU_SOURCE
#include "engine.h"

#include "interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POLL_MILLISECONDS 100
#define MOST_IDLE 64
#define LOG_SHOWN 1500 /* bytes of the engine's last words in an error */
#define LISTENING_FD 3 /* where the engine finds its socket */

extern char **environ;

struct Engine {
	pthread_mutex_t guard;
	int idle[MOST_IDLE];
	int idle_count;
	int anchor; /* a connection without requests: the engine keeps our settings while it is open */
	char **remembered;
	uint32_t remembered_count;
	pid_t child; /* the engine that this shell has started, 0 when another one has */
	char session[33];
};

Engine *engine_new(void) {
	Engine *engine = calloc(1, sizeof *engine);
	uint8_t random[16];
	if (!engine || getrandom(random, sizeof random, 0) != sizeof random) {
		free(engine);
		return NULL;
	}
	for (size_t i = 0; i < sizeof random; i++) {
		snprintf(engine->session + 2 * i, 3, "%02x", random[i]);
	}
	engine->anchor = -1;
	pthread_mutex_init(&engine->guard, NULL);
	return engine;
}

static void reap(Engine *engine) {
	if (engine->child && waitpid(engine->child, NULL, WNOHANG) != 0) {
		engine->child = 0;
	}
}

void engine_free(Engine *engine) {
	for (int i = 0; i < engine->idle_count; i++) {
		close(engine->idle[i]);
	}
	if (engine->anchor >= 0) {
		close(engine->anchor);
	}
	for (uint32_t i = 0; i < engine->remembered_count; i++) {
		free(engine->remembered[i]);
	}
	free(engine->remembered);
	reap(engine);
	pthread_mutex_destroy(&engine->guard);
	free(engine);
}

/* Frames */

static bool send_all(int connection, const uint8_t *bytes, size_t count, Error *error) {
	while (count) {
		ssize_t sent = send(connection, bytes, count, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR) {
			continue;
		}
		if (sent <= 0) {
			return error_set(error, "the engine of quackllm has ended; the next statement starts a new one");
		}
		bytes += sent;
		count -= (size_t)sent;
	}
	return true;
}

bool frame_send(int connection, uint8_t kind, const Buffer *payload, Error *error) {
	if (payload && payload->failed) {
		return error_set(error, "out of memory: a message to the engine of quackllm");
	}
	if (payload && payload->size > MOST_PAYLOAD) {
		return error_set(error, "a message to the engine of quackllm would have %zu bytes, more than %u: give it "
		                        "shorter values, or fewer rows at once", payload->size, MOST_PAYLOAD);
	}
	uint8_t head[5];
	uint32_t length = payload ? (uint32_t)payload->size : 0;
	memcpy(head, &length, sizeof length);
	head[4] = kind;
	return send_all(connection, head, sizeof head, error) &&
	       (!length || send_all(connection, payload->data, length, error));
}

static bool receive_all(int connection, uint8_t *bytes, size_t count, unsigned before, Error *error) {
	while (count) {
		struct pollfd waiting = {connection, POLLIN, 0};
		int ready = poll(&waiting, 1, POLL_MILLISECONDS);
		if (interrupts_seen() != before) {
			return error_set(error, "Interrupted: the calls in flight are ended; answers that had arrived are kept");
		}
		if (ready <= 0) {
			continue;
		}
		ssize_t got = recv(connection, bytes, count, 0);
		if (got < 0 && errno == EINTR) {
			continue;
		}
		if (got <= 0) {
			return error_set(error, "the engine of quackllm has ended in the middle of a statement; answers that "
			                        "had arrived are kept, and the next statement starts a new engine");
		}
		bytes += got;
		count -= (size_t)got;
	}
	return true;
}

/* Sets `kind` only when the whole frame has come. */
static bool receive(int connection, uint8_t *kind, Buffer *payload, Error *error) {
	uint8_t head[5];
	uint32_t length;
	unsigned before = interrupts_watch();
	payload->size = 0;
	bool done = receive_all(connection, head, sizeof head, before, error);
	if (done) {
		memcpy(&length, head, sizeof length);
		uint8_t *place = length <= MOST_PAYLOAD ? buffer_extend(payload, length) : NULL;
		done = place || !length
		           ? receive_all(connection, place, length, before, error)
		           : error_set(error, "no memory for a message of %u bytes from the engine of quackllm", length);
	}
	interrupts_unwatch();
	if (done) {
		*kind = head[4];
	}
	return done;
}

static void remember(Engine *engine, const Buffer *payload) {
	Reader in = reader_of(payload);
	char *sql = reader_text(&in);
	pthread_mutex_lock(&engine->guard);
	char **grown = sql ? realloc(engine->remembered, (engine->remembered_count + 1) * sizeof *grown) : NULL;
	if (grown) {
		engine->remembered = grown;
		engine->remembered[engine->remembered_count++] = sql;
	} else {
		free(sql);
	}
	pthread_mutex_unlock(&engine->guard);
}

/* Whether a frame brings an error, which it sets. */
static bool is_error(uint8_t kind, const Buffer *payload, Error *error) {
	if (kind != FRAME_ERROR) {
		return false;
	}
	Reader in = reader_of(payload);
	char *text = reader_text(&in);
	error_set(error, "%s", text ? text : "unknown error");
	free(text);
	return true;
}

bool frame_receive(Engine *engine, int connection, uint8_t *kind, Buffer *payload, Error *error) {
	do {
		if (!receive(connection, kind, payload, error)) {
			*kind = 0;
			return false;
		}
		if (*kind == FRAME_REMEMBER) {
			remember(engine, payload);
		}
	} while (*kind == FRAME_REMEMBER);
	return !is_error(*kind, payload, error);
}

/* Where the engine listens: a folder that only this user can enter, a socket for each
 * environment, so that keys and addresses of one shell are not used by another. */

typedef struct {
	char folder[78]; /* so that a socket's path, of 108 bytes, has room for its name */
	struct sockaddr_un socket;
	char log[128];
	char lock[128];
} Places;

static bool matters(const char *variable) {
	static const char *const beginnings[] = {"QUACKLLM_", "OPENAI_", "HF_", "SSL_CERT_", "HOME=", "XDG_"};
	for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
		if (strncmp(variable, beginnings[i], strlen(beginnings[i])) == 0) {
			return true;
		}
	}
	const char *end = strchr(variable, '=');
	size_t length = end ? (size_t)(end - variable) : strlen(variable);
	return (length > 6 && strncasecmp(end - 6, "_PROXY", 6) == 0) ||
	       (length > 8 && strncmp(end - 8, "_API_KEY", 8) == 0);
}

/* FNV-1a of each variable, added up: their order does not matter. */
static uint64_t environment_hash(void) {
	uint64_t sum = PROTOCOL_VERSION;
	for (char **variable = environ; *variable; variable++) {
		if (matters(*variable)) {
			uint64_t hash = 14695981039346656037u;
			for (const char *at = *variable; *at; at++) {
				hash = (hash ^ (uint8_t)*at) * 1099511628211u;
			}
			sum += hash;
		}
	}
	return sum;
}

static bool find_places(Places *places, Error *error) {
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	int length = runtime && *runtime
	                 ? snprintf(places->folder, sizeof places->folder, "%s/quackllm", runtime)
	                 : snprintf(places->folder, sizeof places->folder, "/tmp/quackllm-%u", (unsigned)getuid());
	if (length < 0 || (size_t)length >= sizeof places->folder) {
		return error_set(error, "XDG_RUNTIME_DIR is too long for a socket: %s", runtime ? runtime : "");
	}
	struct stat found;
	if (mkdir(places->folder, 0700) != 0 && errno != EEXIST) {
		return error_set(error, "cannot make the folder %s: %s", places->folder, strerror(errno));
	}
	if (lstat(places->folder, &found) != 0 || !S_ISDIR(found.st_mode) || found.st_uid != getuid() ||
	    (found.st_mode & 077) != 0) {
		return error_set(error, "%s must be a folder of yours that nobody else can enter (mode 0700)", places->folder);
	}
	unsigned long long hash = environment_hash();
	places->socket.sun_family = AF_UNIX;
	snprintf(places->socket.sun_path, sizeof places->socket.sun_path, "%s/engine-%016llx.sock", places->folder, hash);
	snprintf(places->log, sizeof places->log, "%s/engine-%016llx.log", places->folder, hash);
	snprintf(places->lock, sizeof places->lock, "%s/engine-%016llx.lock", places->folder, hash);
	return true;
}

/* Start */

static int try_connect(const Places *places) {
	int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection >= 0 &&
	    connect(connection, (const struct sockaddr *)&places->socket, sizeof places->socket) != 0) {
		close(connection);
		return -1;
	}
	return connection;
}

static bool spawn_engine(Engine *engine, const Places *places, int listening, Error *error) {
	const char *python = getenv("QUACKLLM_PYTHON");
	/* -P: a quackllm.py in the shell's folder is not ours */
	char *with_python[] = {(char *)python, "-P", "-m", "quackllm", "shell-engine", NULL};
	char *installed[] = {"quackllm", "shell-engine", NULL};
	char **arguments = python && *python ? with_python : installed;
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, listening, LISTENING_FD);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, places->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&files, 1, 2);
	sigset_t none, defaults;
	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGINT);
	sigaddset(&defaults, SIGPIPE);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &defaults);
	/* A session of its own: Ctrl-C in the shell is not for the engine. */
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	int failed = posix_spawnp(&engine->child, arguments[0], &files, &attributes, arguments, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attributes);
	if (failed) {
		engine->child = 0;
		return error_set(error, "cannot start the engine, %s: %s. Install it (pip install quackllm), or set "
		                        "QUACKLLM_PYTHON to the Python that has it", arguments[0], strerror(failed));
	}
	return true;
}

/* Starts an engine; returns a connection to it. The socket listens before its engine runs, so that
 * nobody has to wait and try again. */
static int start(Engine *engine, const Places *places, Error *error) {
	reap(engine);
	int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unlink(places->socket.sun_path);
	bool ready = listening >= 0 &&
	             bind(listening, (const struct sockaddr *)&places->socket, sizeof places->socket) == 0 &&
	             chmod(places->socket.sun_path, 0600) == 0 && listen(listening, MOST_IDLE) == 0;
	bool started = ready ? spawn_engine(engine, places, listening, error)
	                     : error_set(error, "cannot listen at %s: %s", places->socket.sun_path, strerror(errno));
	int connection = started ? try_connect(places) : -1;
	if (listening >= 0) {
		close(listening);
	}
	return connection;
}

static int connect_or_start(Engine *engine, const Places *places, bool *started, Error *error) {
	int connection = try_connect(places);
	*started = false;
	if (connection >= 0) {
		return connection;
	}
	int lock = open(places->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock < 0 || flock(lock, LOCK_EX) != 0) {
		error_set(error, "cannot lock %s: %s", places->lock, strerror(errno));
	} else {
		connection = try_connect(places); /* another shell may have started it meanwhile */
		if (connection < 0) {
			connection = start(engine, places, error);
			*started = true;
		}
	}
	if (lock >= 0) {
		close(lock);
	}
	if (connection < 0) {
		error_set(error, "cannot connect to the engine at %s", places->socket.sun_path);
	}
	return connection;
}

static void add_last_words(const Places *places, Error *error) {
	char words[LOG_SHOWN + 1];
	int log = open(places->log, O_RDONLY | O_CLOEXEC);
	if (log < 0) {
		return;
	}
	off_t size = lseek(log, 0, SEEK_END);
	lseek(log, size > LOG_SHOWN ? size - LOG_SHOWN : 0, SEEK_SET);
	ssize_t got = read(log, words, LOG_SHOWN);
	close(log);
	words[got > 0 ? got : 0] = '\0';
	error_free(error);
	error_set(error, "the engine of quackllm did not start%s%s", got > 0 ? ". It said:\n" : "", words);
}

/* Whether the engine that this shell started has ended; its sockets close a moment earlier. */
static bool child_ended(Engine *engine) {
	for (int tries = 0; engine->child && tries < 20; tries++) {
		reap(engine);
		if (!engine->child) {
			return true;
		}
		poll(NULL, 0, POLL_MILLISECONDS / 2);
	}
	return false;
}

/* `kind` is that of the reply, 0 when there was none. */
static bool say_hello(Engine *engine, int connection, uint8_t *kind, Error *error) {
	Buffer hello = {0}, reply = {0};
	char *folder = getcwd(NULL, 0);
	buffer_put_u8(&hello, PROTOCOL_VERSION);
	buffer_put_text(&hello, engine->session);
	buffer_put_text(&hello, folder ? folder : "");
	buffer_put_u32(&hello, engine->remembered_count);
	for (uint32_t i = 0; i < engine->remembered_count; i++) {
		buffer_put_text(&hello, engine->remembered[i]);
	}
	free(folder);
	bool done = frame_send(connection, FRAME_HELLO, &hello, error) && receive(connection, kind, &reply, error) &&
	            !is_error(*kind, &reply, error);
	buffer_free(&hello);
	buffer_free(&reply);
	return done;
}

static bool is_open(int connection) {
	uint8_t byte;
	return connection >= 0 && recv(connection, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* Takes a connection that is still open from those that wait; -1 when there is none. */
static int take_idle(Engine *engine) {
	while (engine->idle_count) {
		int connection = engine->idle[--engine->idle_count];
		if (is_open(connection)) {
			return connection;
		}
		close(connection);
	}
	return -1;
}

/* An engine that is found may be about to end: then the second try starts one. */
static int greeted_connection(Engine *engine, Error *error) {
	Places places = {0};
	bool known = find_places(&places, error);
	unsigned before = interrupts_seen();
	for (int tries = 0; known && tries < 2; tries++) {
		uint8_t kind = 0;
		bool started;
		error_free(error);
		int connection = connect_or_start(engine, &places, &started, error);
		if (connection >= 0 && say_hello(engine, connection, &kind, error)) {
			return connection;
		}
		if (connection >= 0) {
			close(connection);
		}
		if (connection < 0 || kind == FRAME_ERROR || interrupts_seen() != before) {
			return -1;
		}
		if (started) {
			if (child_ended(engine)) {
				add_last_words(&places, error);
			}
			return -1;
		}
	}
	return -1;
}

int engine_connect(Engine *engine, Error *error) {
	pthread_mutex_lock(&engine->guard);
	int connection = -1;
	if (!is_open(engine->anchor)) {
		if (engine->anchor >= 0) {
			close(engine->anchor);
		}
		engine->anchor = greeted_connection(engine, error);
	}
	if (engine->anchor >= 0) {
		connection = take_idle(engine);
		if (connection < 0) {
			connection = greeted_connection(engine, error);
		}
	}
	pthread_mutex_unlock(&engine->guard);
	return connection;
}

void engine_release(Engine *engine, int connection, bool whole) {
	pthread_mutex_lock(&engine->guard);
	if (whole && engine->idle_count < MOST_IDLE) {
		engine->idle[engine->idle_count++] = connection;
	} else {
		close(connection);
	}
	pthread_mutex_unlock(&engine->guard);
}
