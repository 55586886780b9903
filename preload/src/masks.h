/* Blocking the watched signals: for the kernel they stay open, so that a fault
 * in a thread that blocks everything is seen; what the application asked for is
 * kept per thread, and read back by it. */
#ifndef SF_MASKS_H
#define SF_MASKS_H

#include <stdint.h>

/* The signals that interposed calls never block physically: the watched ones,
 * and the one that stops a thread for the snapshot. */
uint64_t sf_kept_open(void);

/* Which of these the calling thread blocks, as it knows it. */
uint64_t sf_blocked(void);
void sf_set_blocked(uint64_t signals);

/* The mask as a new thread inherits it. */
struct sf_mask {
	uint64_t blocked, witness;
};
struct sf_mask sf_mask(void);
void sf_inherit_mask(struct sf_mask mask);

/* Some unblock by a system call of their own (Go's runtime, siglongjmp inside
 * libc).  Then a signal that was blocked together with the watched ones is open
 * in `mask`, the kernel's, and the watched ones are taken for open, too. */
void sf_notice_bypass(uint64_t mask);

/* Blocks every signal for real; returns the mask before. */
uint64_t sf_block_all(void);
void sf_set_mask(uint64_t mask);

/* Makes the kernel block what the application blocks, for a call that hands its
 * mask on; returns what sf_hide_mask() needs afterwards. */
uint64_t sf_expose_mask(void);
void sf_hide_mask(uint64_t exposed);

#endif
