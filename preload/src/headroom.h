/* How much a snapshot may weigh without changing how the process dies. */
#ifndef SF_HEADROOM_H
#define SF_HEADROOM_H

#include <stdbool.h>
#include <stdint.h>

/* False so near to the memory limit that our own work could meet it: the pages
 * of stack, tables and buffers that a snapshot touches, measured to be about
 * 100 KiB, and the quarter for the snapshot itself. */
bool sf_may_snapshot(void);

/* Bytes a snapshot may use: at most STILLFRAME_MAX_BYTES and a quarter of what
 * the volume of `fd` and the memory cgroup have left.  Near the limit, writing
 * to tmpfs turns exit status 139 into 137. */
uint64_t sf_headroom(int fd);

#endif
