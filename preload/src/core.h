/* The snapshot: an ELF core file of a few pages. */
#ifndef SF_CORE_H
#define SF_CORE_H

#include "crash.h"
#include "output.h"

/* Writes the whole core, smaller the less room there is; fills crash->note
 * and crash->note_offset.  0, or -errno when not even registers fit. */
int sf_core_write(int fd, struct sf_crash *crash, const uint8_t *id);

#endif
