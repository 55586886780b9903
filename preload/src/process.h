/* Whose memory is this?  What the library remembers belongs to one process: a
 * forked child has a copy of it, a vfork child uses its parent's. */
#ifndef SF_PROCESS_H
#define SF_PROCESS_H

#include <stdbool.h>

/* Once, at start-up. */
void sf_process_init(void);

/* False in a vfork child: what it asks for must not be remembered.  In a forked
 * child the first call forgets what its parent was in the middle of.  One
 * system call. */
bool sf_process_is_ours(void);

#endif
