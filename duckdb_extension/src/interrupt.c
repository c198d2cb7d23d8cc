#include "interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

static atomic_uint seen;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static unsigned watching;
static struct sigaction shells_own;

static void notice(int number, siginfo_t *info, void *context) {
	atomic_fetch_add(&seen, 1);
	if (shells_own.sa_flags & SA_SIGINFO) {
		shells_own.sa_sigaction(number, info, context);
	} else if (shells_own.sa_handler == SIG_DFL) {
		signal(number, SIG_DFL);
		raise(number);
	} else if (shells_own.sa_handler != SIG_IGN) {
		shells_own.sa_handler(number);
	}
}

unsigned interrupts_watch(void) {
	pthread_mutex_lock(&guard);
	if (watching++ == 0) {
		struct sigaction ours = {0};
		ours.sa_sigaction = notice;
		ours.sa_flags = SA_SIGINFO | SA_RESTART;
		sigemptyset(&ours.sa_mask);
		sigaction(SIGINT, NULL, &shells_own);
		sigaction(SIGINT, &ours, NULL);
	}
	pthread_mutex_unlock(&guard);
	return interrupts_seen();
}

void interrupts_unwatch(void) {
	pthread_mutex_lock(&guard);
	if (--watching == 0) {
		struct sigaction now;
		sigaction(SIGINT, NULL, &now);
		if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == notice) { /* nobody came after us */
			sigaction(SIGINT, &shells_own, NULL);
		}
	}
	pthread_mutex_unlock(&guard);
}

unsigned interrupts_seen(void) {
	return atomic_load(&seen);
}
