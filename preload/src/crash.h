/* One crash, from the signal to the death. */
#ifndef SF_CRASH_H
#define SF_CRASH_H

#include "machine.h"
#include "note.h"

struct sf_crash {
	const siginfo_t *si;
	const struct ucontext *uc;
	int pid;
	int tid;
	uint64_t tls_base;
	struct sf_note note;
	uint64_t note_offset; /* of `note` in the snapshot file */
};

/* Reports the crash that began with `si` at `uc`, once for each process, and
 * holds; call with all signals blocked.  True when this call did it: the other
 * threads are stopped then. */
bool sf_crash_report(const siginfo_t *si, const struct ucontext *uc,
		     enum sf_involvement involvement, uint32_t flags);

#endif
