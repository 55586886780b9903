/* The PT_NOTE segment: registers, signal, process, modules, and our own note.
 */
#ifndef SF_NOTES_H
#define SF_NOTES_H

#include <stdbool.h>

#include "application.h"
#include "crash.h"
#include "modules.h"
#include "output.h"
#include "ranges.h"

struct sf_notes {
	const struct sf_crash *crash;
	bool other_threads; /* also the parked ones */
	size_t auxv_bytes;
	uint64_t auxv[SF_AUXV_BYTES / sizeof(uint64_t)];
	uint64_t crash_note; /* offset of struct sf_note, once written */
	const struct sf_note_secret *secrets;
	const char *text; /* how much of both: crash->note */
};

/* The next secret byte at or after `address`, and the end of its range; at
 * UINT64_MAX when none follows. */
struct sf_range sf_notes_next_secret(const struct sf_notes *notes,
				     uint64_t address);

/* A numeric field of /proc/self/stat by its number in proc(5), 22 or later; 0
 * when it cannot be read. */
uint64_t sf_stat_field(int number);

/* Fills the vendor note but for what the writer decides (flags, counts). */
void sf_note_fill(struct sf_crash *crash, const uint8_t *id);

/* The same field of the text of a /proc/PID/stat. */
uint64_t sf_stat_number(const char *stat, int number);

/* Puts all notes; call with a counting output first to learn the size. */
void sf_notes_put(struct sf_notes *notes, struct sf_output *out);

#endif
