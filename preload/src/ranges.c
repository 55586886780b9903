#include "ranges.h"

#include "sys.h"
#include "text.h"

struct sf_ranges sf_ranges;

void sf_ranges_reset(uint64_t limit)
{
	sf_ranges.count = 0;
	sf_ranges.truncated = false;
	sf_ranges.bytes = 0;
	sf_ranges.limit = limit;
}

void sf_ranges_add(uint64_t start, uint64_t end)
{
	struct sf_range *entry = sf_ranges.entry;
	uint32_t first;
	uint32_t last = sf_ranges.count;
	uint64_t merged = 0;

	start &= ~(SF_PAGE - 1);
	end = (end + SF_PAGE - 1) & ~(SF_PAGE - 1);
	if (start >= end)
		return;
	/* entry[first, last) touch the new range and melt into it. */
	while (last > 0 && entry[last - 1].start > end)
		last--;
	first = last;
	while (first > 0 && entry[first - 1].end >= start) {
		first--;
		merged += entry[first].end - entry[first].start;
	}
	if (first < last) {
		start = entry[first].start < start ? entry[first].start : start;
		end = entry[last - 1].end > end ? entry[last - 1].end : end;
	}
	if (sf_ranges.bytes - merged + (end - start) > sf_ranges.limit ||
	    (first == last && sf_ranges.count == SF_RANGES_MAX)) {
		sf_ranges.truncated = true;
		return;
	}
	memmove(&entry[first + 1], &entry[last],
		(sf_ranges.count - last) * sizeof(*entry));
	entry[first] = (struct sf_range){start, end};
	sf_ranges.count += 1 + first - last;
	sf_ranges.bytes += end - start - merged;
}
