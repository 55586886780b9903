/* STILLFRAME_* environment, parsed once at start-up into static memory: the
 * application may move or overwrite its environment later. */
#ifndef SF_CONFIG_H
#define SF_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#define SF_VERSION 0x000100 /* 0x00MMmmpp: 0.1.0 */

#define SF_DIR_BYTES 256

struct sf_config {
	char dir[SF_DIR_BYTES]; /* STILLFRAME_DIR */
	uint64_t signals;	/* STILLFRAME_SIGNALS: bit n - 1 for signal n */
	uint64_t hold_ms;	/* STILLFRAME_HOLD_MS; 0: never hold */
	uint64_t claim_ms;	/* STILLFRAME_CLAIM_MS */
	uint64_t max_bytes;	/* STILLFRAME_MAX_BYTES, of one snapshot */
	bool disabled;		/* STILLFRAME_DISABLED=1: do nothing at all */
	bool debug;		/* STILLFRAME_DEBUG=1: speak on stderr */
};

extern struct sf_config sf_config;

/* False while libc does not know the environment yet; for good without libc. */
bool sf_config_readable(void);

/* Fills sf_config.  Idempotent and callable before any constructor ran. */
void sf_config_load(void);

#endif
