/* STILLFRAME_DEBUG=1: one line on stderr; otherwise silence. */
#ifndef SF_DEBUG_H
#define SF_DEBUG_H

#include "crash.h"

void sf_debug_report(const struct sf_crash *crash, const char *file, int error);

#endif
