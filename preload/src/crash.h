/* One crash, from the signal to the death. */
#ifndef SF_CRASH_H
#define SF_CRASH_H

#include "arch.h"
#include "note.h"

struct sf_crash {
	const siginfo_t *si;
	struct ucontext *uc;
	int pid;
	int tid;
	uint64_t tls_base;
	struct sf_note note;
	uint64_t note_offset; /* of `note` in the snapshot file */
};

/* The handler of every watched signal. */
void sf_on_crash(int sig, siginfo_t *si, void *context);

#endif
