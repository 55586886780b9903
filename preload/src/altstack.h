/* Alternate signal stacks, so that a stack overflow can be reported. */
#ifndef SF_ALTSTACK_H
#define SF_ALTSTACK_H

#include <stdint.h>

/* Large enough to be adopted by a language runtime as its signal stack. */
#define SF_ALTSTACK_BYTES 65536

/* Gives the calling thread `stack`, unless it already has one. */
void sf_altstack_use(void *stack);

/* For the main thread, from static memory; remembers where its stack begins. */
void sf_altstack_init(void);

/* An address near the oldest frame of the main thread. */
extern uint64_t sf_main_stack_origin;

#endif
