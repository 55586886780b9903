/* Which memory goes into the snapshot: page ranges, sorted and disjoint, up to
 * a budget. */
#ifndef SF_RANGES_H
#define SF_RANGES_H

#include <stdbool.h>
#include <stdint.h>

#define SF_RANGES_MAX 4096

struct sf_range {
	uint64_t start, end; /* page-aligned */
};

struct sf_ranges {
	uint32_t count;
	bool truncated; /* something did not fit */
	uint64_t bytes; /* sum of the entries */
	uint64_t limit; /* budget for `bytes` */
	struct sf_range entry[SF_RANGES_MAX];
};

extern struct sf_ranges sf_ranges;

void sf_ranges_reset(uint64_t limit);

/* Adds the pages that [start, end) touches, or nothing and sets `truncated`
 * when they do not fit the budget. */
void sf_ranges_add(uint64_t start, uint64_t end);

#endif
