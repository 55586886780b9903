#include "maps.h"

#include <linux/elf.h>

#include "sys.h"
#include "text.h"

/* Mappings without a file that may use the table; the rest is for modules,
 * which lie above the heaps of most runtimes. */
#define ANONYMOUS_MAX (SF_MAPS_MAX * 3 / 4)

/* Of one line; a longer one loses the end of its name. A path is at most 4096
 * bytes, but the kernel writes each newline in it as four. */
#define LINE_BYTES (3 * 4096)

struct sf_maps sf_maps;

/* The line being read: the kernel's pages end anywhere in it. */
static struct {
	size_t used;
	char text[LINE_BYTES];
} line;

static uint32_t keep_name(const char *name)
{
	const struct sf_map *last =
		sf_maps.count ? &sf_maps.entry[sf_maps.count - 1] : NULL;
	size_t length = sf_strlen(name);
	uint32_t at = sf_maps.names_used;

	if (length == 0)
		return 0;
	/* One copy for the mappings of one file, which follow each other. */
	if (last && sf_equal(sf_maps.names + last->name, name))
		return last->name;
	if (at + length + 1 > SF_NAMES_MAX) {
		sf_maps.truncated = true;
		return 0;
	}
	memcpy(sf_maps.names + at, name, length + 1);
	sf_maps.names_used += (uint32_t)length + 1;
	return at;
}

/* "start-end rwxp offset major:minor inode   name"; returns where the name is,
 * or NULL when the line is of another kind. */
static const char *parse(const char *at, struct sf_map *ret)
{
	ret->start = sf_number(&at, 16);
	if (*at++ != '-')
		return NULL;
	ret->end = sf_number(&at, 16);
	if (*at++ != ' ' || sf_strlen(at) < 5)
		return NULL;
	ret->flags = (at[0] == 'r' ? PF_R : 0) | (at[1] == 'w' ? PF_W : 0) |
		     (at[2] == 'x' ? PF_X : 0);
	at += 5;
	ret->offset = sf_number(&at, 16);
	for (int column = 0; column < 3 && *at != '\0'; at++)
		column += *at == ' ';
	while (*at == ' ')
		at++;
	return at;
}

static void add_line(const char *text)
{
	uint64_t floor =
		sf_maps.count ? sf_maps.entry[sf_maps.count - 1].end : 0;
	struct sf_map map = {0};
	const char *name = parse(text, &map);

	/* The kernel promises ascending, disjoint lines even while the address
	 * space changes (Documentation/filesystems/proc.rst); all that search
	 * the table rely on it. */
	if (!name || map.start < floor || map.end <= map.start)
		return;
	if (sf_maps.count == SF_MAPS_MAX ||
	    (*name == '\0' && sf_maps.count >= ANONYMOUS_MAX)) {
		sf_maps.truncated = true;
		return;
	}
	map.name = keep_name(name);
	sf_maps.entry[sf_maps.count++] = map;
}

void sf_maps_reset(void)
{
	sf_maps.count = 0;
	sf_maps.names_used = 1; /* index 0 is the empty name */
	sf_maps.truncated = false;
	line.used = 0;
}

void sf_maps_add(const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] == '\n') {
			line.text[line.used] = '\0';
			add_line(line.text);
			line.used = 0;
		} else if (line.used + 1 < sizeof(line.text)) {
			line.text[line.used++] = text[i];
		} else {
			sf_maps.truncated = true;
		}
	}
}

void sf_maps_read(void)
{
	static char buffer[4096];
	int fd = sf_open(AT_FDCWD, "/proc/self/maps", O_RDONLY, 0);
	long got;

	sf_maps_reset();
	if (fd < 0)
		return;
	while ((got = sf_sys3(__NR_read, fd, buffer, sizeof(buffer))) > 0)
		sf_maps_add(buffer, (size_t)got);
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
