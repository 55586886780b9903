/* What an application tells us through include/stillframe.h, and how a crash
 * reads it.  Nothing here is written until it is used. */
#ifndef SF_APPLICATION_H
#define SF_APPLICATION_H

#include <stddef.h>
#include <stdint.h>

#include "note.h"
#include "stillframe.h"

#define SF_API __attribute__((visibility("default")))

/* The exported functions.  Their names carry the version of their arguments: a
 * change is a new name beside the old one. */
SF_API int stillframe_annotate_v1(const char *key, const char *value);
SF_API int stillframe_request_v1(const char *id);
SF_API int stillframe_secret_add_v1(const volatile void *address, size_t size);
SF_API int stillframe_secret_remove_v1(const volatile void *address,
				       size_t size);

/* Replacing takes a second place until the first is free: so many threads may
 * do so at once. */
#define SF_ANNOTATIONS_SPARE  16
#define SF_ANNOTATIONS_PLACES (STILLFRAME_ANNOTATIONS + SF_ANNOTATIONS_SPARE)

/* All annotations and one request id at their longest. */
#define SF_TEXT_BYTES                                                          \
	((SF_ANNOTATIONS_PLACES + 1UL) *                                       \
	 (STILLFRAME_KEY_BYTES + STILLFRAME_VALUE_BYTES))

/* The request id of the thread and the annotations, as struct sf_note describes
 * them; returns the bytes.  What does not fit `most` is left out. */
size_t sf_annotations_text(const char **ret, size_t most, uint64_t tls_base);

/* Copies the id of the thread with that TLS base; "" when it has none. */
void sf_request_read(uint64_t tls_base, char ret[STILLFRAME_KEY_BYTES]);

/* The ranges, by address; they may overlap.  Returns their number. */
uint32_t sf_secrets_read(const struct sf_note_secret **ret);

/* Copies text and pads it with zeros: 0 or STILLFRAME_TOO_LONG. */
int sf_application_text(char *ret, size_t size, const char *text);

/* Whether the calls are to do anything: 0, STILLFRAME_ABSENT or
 * STILLFRAME_BUSY. */
int sf_application_ready(void);

#endif
