/* The hand-over directory: one file per crash, names and record locks.
 *
 *	.<id>		created, not yet locked
 *	<id>.part	write lock on byte 0: whose it is, says the kernel
 *	<id>.core	complete
 *
 * The agent answers with read locks: on the directory (an agent is here), on
 * byte 1 (claimed) and byte 2 (the process may go).
 */
#ifndef SF_HANDOVER_H
#define SF_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "note.h"

#define SF_ID_BYTES 16

struct sf_handover {
	int dir; /* descriptor of the directory */
	int file;
	uint8_t id[SF_ID_BYTES];
	char name[2 * SF_ID_BYTES + 8]; /* the file's present name */
};

/* Opens the directory, making it if it is missing; 0 or -errno. */
int sf_handover_open(struct sf_handover *ret);

/* Creates the locked .part file; 0 or -errno. */
int sf_handover_create(struct sf_handover *h);

/* Renames the complete snapshot to .core; 0 or -errno. */
int sf_handover_publish(struct sf_handover *h);

/* Removes a snapshot that could not be written. */
void sf_handover_discard(struct sf_handover *h);

/* Holds the process until it may go; returns why. */
enum sf_release sf_handover_hold(const struct sf_handover *h);

#endif
