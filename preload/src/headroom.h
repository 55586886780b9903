/* How much a snapshot may weigh without changing how the process dies. */
#ifndef SF_HEADROOM_H
#define SF_HEADROOM_H

#include <stdint.h>

/* Bytes a snapshot may use: at most STILLFRAME_MAX_BYTES and a quarter of what
 * the volume of `fd` and the memory cgroup have left.  Near the limit, writing
 * to tmpfs turns exit status 139 into 137. */
uint64_t sf_headroom(int fd);

#endif
