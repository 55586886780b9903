/* The parser of /proc/self/maps: any text, in any pieces.
 *
 * input: one byte, the length of the pieces; the text. */
#include "maps.h"

#include "fuzz.h"

static void check_table(void)
{
	uint64_t floor = 0;

	CHECK(sf_maps.count <= SF_MAPS_MAX);
	CHECK(sf_maps.names_used <= SF_NAMES_MAX);
	for (uint32_t i = 0; i < sf_maps.count; i++) {
		const struct sf_map *map = &sf_maps.entry[i];

		CHECK(map->start >= floor && map->end > map->start);
		CHECK(map->name < sf_maps.names_used);
		CHECK(map->name + sf_strlen(sf_map_name(map)) <
		      sf_maps.names_used);
		CHECK(map->name == 0 || sf_map_name(map)[0] != '\0');
		CHECK(map->flags <= 7);
		floor = map->end;
	}
}

static void check_search(uint64_t address)
{
	const struct sf_map *found = sf_maps_at_or_above(address);
	const struct sf_map *linear = NULL;

	for (uint32_t i = 0; i < sf_maps.count && !linear; i++)
		if (sf_maps.entry[i].end > address)
			linear = &sf_maps.entry[i];
	CHECK(found == linear);
	CHECK(sf_maps_find(address) ==
	      (linear && linear->start <= address ? linear : NULL));
}

static uint64_t digest(void)
{
	uint64_t sum = sf_maps.count + 31 * sf_maps.truncated;

	for (uint32_t i = 0; i < sf_maps.count; i++) {
		const struct sf_map *map = &sf_maps.entry[i];

		sum = sum * 1099511628211U ^ map->start ^ map->end * 3 ^
		      map->offset * 5 ^ map->flags;
		for (const char *c = sf_map_name(map); *c != '\0'; c++)
			sum = sum * 1099511628211U ^ (uint8_t)*c;
	}
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input in = {bytes, size};
	size_t piece = take_byte(&in) + 1;
	const char *text = (const char *)in.at;
	uint64_t whole;

	sf_maps_reset();
	sf_maps_add(text, in.left);
	check_table();
	whole = digest();
	for (uint32_t i = 0; i < sf_maps.count; i++) {
		check_search(sf_maps.entry[i].start - 1);
		check_search(sf_maps.entry[i].start);
		check_search(sf_maps.entry[i].end);
	}
	check_search(0);
	check_search(~0ULL);

	sf_maps_reset();
	for (size_t at = 0; at < in.left; at += piece)
		sf_maps_add(text + at,
			    in.left - at < piece ? in.left - at : piece);
	CHECK(digest() == whole);
	return 0;
}
