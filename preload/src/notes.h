/* The PT_NOTE segment: registers, signal, process, modules, and our own note.
 */
#ifndef SF_NOTES_H
#define SF_NOTES_H

#include <stdbool.h>

#include "crash.h"
#include "modules.h"
#include "output.h"

struct sf_notes {
	const struct sf_crash *crash;
	bool other_threads; /* also the parked ones */
	size_t auxv_bytes;
	uint64_t auxv[SF_AUXV_BYTES / sizeof(uint64_t)];
	uint64_t crash_note; /* offset of struct sf_note, once written */
};

/* Fills the vendor note but for what the writer decides (flags, counts). */
void sf_note_fill(struct sf_crash *crash, const uint8_t *id);

/* Puts one note. */
void sf_note_put(struct sf_output *out, const char *owner, uint32_t type,
		 const void *desc, uint64_t bytes);

/* Puts all notes; call with a counting output first to learn the size. */
void sf_notes_put(struct sf_notes *notes, struct sf_output *out);

#endif
