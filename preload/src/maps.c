#include "maps.h"

#include <linux/elf.h>

#include "sys.h"
#include "text.h"

/* Mappings without a file that may use the table; the rest is for modules,
 * which lie above the heaps of most runtimes. */
#define ANONYMOUS_MAX (SF_MAPS_MAX * 3 / 4)

struct sf_maps sf_maps;

static uint32_t keep_name(const char *name, size_t length)
{
	const struct sf_map *last =
		sf_maps.count ? &sf_maps.entry[sf_maps.count - 1] : NULL;
	uint32_t at = sf_maps.names_used;

	if (length == 0 || at + length + 1 > SF_NAMES_MAX)
		return 0;
	memcpy(sf_maps.names + at, name, length);
	sf_maps.names[at + length] = '\0';
	/* One copy for the mappings of one file, which follow each other. */
	if (last && sf_equal(sf_maps.names + last->name, sf_maps.names + at))
		return last->name;
	sf_maps.names_used += (uint32_t)length + 1;
	return at;
}

/* "start-end rwxp offset major:minor inode   name" */
static void parse_line(const char *line, const char *end)
{
	struct sf_map map = {0};

	map.start = sf_number(&line, 16);
	line++;
	map.end = sf_number(&line, 16);
	line++;
	map.flags = (line[0] == 'r' ? PF_R : 0) | (line[1] == 'w' ? PF_W : 0) |
		    (line[2] == 'x' ? PF_X : 0);
	line += 5;
	map.offset = sf_number(&line, 16);
	for (int column = 0; column < 3 && line < end; line++)
		column += *line == ' ';
	while (line < end && *line == ' ')
		line++;
	if (sf_maps.count == SF_MAPS_MAX ||
	    (line == end && sf_maps.count >= ANONYMOUS_MAX)) {
		sf_maps.truncated = true;
		return;
	}
	map.name = keep_name(line, (size_t)(end - line));
	sf_maps.entry[sf_maps.count++] = map;
}

void sf_maps_read(void)
{
	static char buffer[3 * 4096]; /* a line is at most a path and a bit */
	int fd = sf_open(AT_FDCWD, "/proc/self/maps", O_RDONLY, 0);
	size_t used = 0;
	long got;

	sf_maps.count = 0;
	sf_maps.names_used = 1; /* index 0 is the empty name */
	sf_maps.truncated = false;
	if (fd < 0)
		return;
	while ((got = sf_sys3(__NR_read, fd, buffer + used,
			      sizeof(buffer) - used)) > 0) {
		size_t start = 0;

		used += (size_t)got;
		for (size_t i = 0; i < used; i++)
			if (buffer[i] == '\n') {
				parse_line(buffer + start, buffer + i);
				start = i + 1;
			}
		used -= start;
		memmove(buffer, buffer + start, used);
	}
	sf_close(fd);
}

const struct sf_map *sf_maps_at_or_above(uint64_t address)
{
	uint32_t low = 0;
	uint32_t high = sf_maps.count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (sf_maps.entry[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < sf_maps.count ? &sf_maps.entry[low] : NULL;
}

const struct sf_map *sf_maps_find(uint64_t address)
{
	const struct sf_map *map = sf_maps_at_or_above(address);

	return map && map->start <= address ? map : NULL;
}

const char *sf_map_name(const struct sf_map *map)
{
	return sf_maps.names + map->name;
}

bool sf_map_is_file(const struct sf_map *map)
{
	return sf_map_name(map)[0] == '/';
}
