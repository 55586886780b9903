/* A fixed table that many threads write, and a crash reads, without a lock.
 *
 * Each place has a state word.  A writer takes a free place, fills it, and only
 * then gives it a version; it never changes a place that has one, but frees it.
 * So a reader that finds the same version before and after it copied has a
 * whole value, whatever died in the middle.  No writer waits for another: one
 * that never comes back (a signal handler left by longjmp, a fork in another
 * thread) costs its place, nothing else.
 */
#ifndef SF_PLACES_H
#define SF_PLACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The state of a place: one of these, or its version. */
#define SF_PLACE_FREE	 0ULL
#define SF_PLACE_FILLING 1ULL
#define SF_PLACE_FIRST	 2ULL /* lowest version */

typedef uint64_t __attribute__((may_alias)) sf_word;

struct sf_places {
	uint64_t *state;
	uint32_t count;
	sf_word *values; /* `count` of them */
	uint32_t words;	 /* in one value */
};

/* True once a snapshot of this process is under way: then nobody writes any
 * more, so that the reader comes to an end. */
bool sf_places_frozen(void);
void sf_places_freeze(int pid);

/* A number that grows with each call, in all tables. */
uint64_t sf_places_tick(void);

/* False while nobody ever wrote anything. */
bool sf_places_used(void);

/* Puts a value into a free place and returns that, not yet readable; -1 when
 * none is free. */
int sf_places_fill(const struct sf_places *places, const void *value);

/* Makes a filled place readable. */
void sf_places_publish(const struct sf_places *places, int place,
		       uint64_t version);

/* Copies the first words of a readable value; its version, or 0 when there is
 * none to read. */
uint64_t sf_places_read(const struct sf_places *places, uint32_t place,
			void *ret, uint32_t words);

/* Frees the place if it still holds that version; true when this call did. */
bool sf_places_free(const struct sf_places *places, uint32_t place,
		    uint64_t version);

#endif
