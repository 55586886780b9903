/* The set of page ranges, against a bitmap.
 *
 * input: the limit in pages (one byte); then for each range 16 bytes, start and
 * end, or 2 bytes (a byte each) after a byte below 128. */
#include "ranges.h"

#include "fuzz.h"

#define PAGES 256U

static bool model[PAGES];

static uint64_t span(uint32_t first, uint32_t past)
{
	uint64_t count = 0;

	for (uint32_t i = first; i < past; i++)
		count += !model[i];
	return count;
}

static uint64_t size_of_model(void)
{
	return PAGES - span(0, PAGES);
}

static bool in_table(uint64_t page)
{
	for (uint32_t i = 0; i < sf_ranges.count; i++)
		if (sf_ranges.entry[i].start <= page * SF_PAGE &&
		    page * SF_PAGE < sf_ranges.entry[i].end)
			return true;
	return false;
}

static void check_table(void)
{
	uint64_t bytes = 0;

	CHECK(sf_ranges.count <= SF_RANGES_MAX);
	for (uint32_t i = 0; i < sf_ranges.count; i++) {
		const struct sf_range *r = &sf_ranges.entry[i];

		CHECK(r->start < r->end);
		CHECK(r->start % SF_PAGE == 0 && r->end % SF_PAGE == 0);
		CHECK(i == 0 || r[-1].end < r->start);
		bytes += r->end - r->start;
		CHECK(r->end - r->start <= sf_ranges.limit);
	}
	CHECK(bytes == sf_ranges.bytes && bytes <= sf_ranges.limit);
}

/* Byte addresses inside the model's pages: page numbers, odd ends. */
static void add_small(uint32_t first, uint32_t past, uint64_t limit)
{
	bool fits = size_of_model() + (first < past ? span(first, past) : 0) <=
		    limit;
	bool truncated = sf_ranges.truncated;

	sf_ranges_add(first * SF_PAGE + first % 7,
		      past * SF_PAGE - (past ? past % 5 : 0));
	if (first >= past)
		return;
	for (uint32_t i = first; i < past && fits; i++)
		model[i] = true;
	CHECK(sf_ranges.truncated == (truncated || !fits));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input in = {bytes, size};
	uint64_t limit = take_byte(&in);
	bool far = false;

	memset(model, 0, sizeof(model));
	sf_ranges_reset(limit * SF_PAGE);
	while (in.left > 0) {
		if (take_byte(&in) < 128 && !far) {
			uint32_t first = take_byte(&in);

			add_small(first, take_byte(&in), limit);
		} else {
			uint64_t start = take_word(&in);

			sf_ranges_add(start, take_word(&in));
			far = true;
		}
		check_table();
	}
	for (uint32_t page = 0; page < PAGES && !far; page++)
		CHECK(in_table(page) == model[page]);
	return 0;
}
