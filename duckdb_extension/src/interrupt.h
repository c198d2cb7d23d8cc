/* Ctrl-C while a model is waited for. The C API does not tell a function that its statement was
 * interrupted, so SIGINT is noticed on its way to the shell's own handler. */
#ifndef QUACKLLM_INTERRUPT_H
#define QUACKLLM_INTERRUPT_H

/* Begins to notice; returns how many there were. May be called from several threads. */
unsigned interrupts_watch(void);
void interrupts_unwatch(void);
unsigned interrupts_seen(void);

#endif
