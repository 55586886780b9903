/* /proc/self/maps as a table, in address order. */
#ifndef SF_MAPS_H
#define SF_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SF_MAPS_MAX  8192
#define SF_NAMES_MAX (256UL * 1024)

struct sf_map {
	uint64_t start, end;
	uint64_t offset; /* bytes into the file */
	uint32_t name;	 /* index into names; 0: none */
	uint32_t flags;	 /* PF_R, PF_W, PF_X */
};

struct sf_maps {
	uint32_t count;
	uint32_t names_used;
	bool truncated; /* a mapping or the end of a name did not fit */
	struct sf_map entry[SF_MAPS_MAX];
	char names[SF_NAMES_MAX];
};

extern struct sf_maps sf_maps;

/* Fills sf_maps; leaves it empty when /proc is not there. */
void sf_maps_read(void);

/* Its two halves: empties sf_maps; adds the mappings of a piece of text, which
 * may begin and end anywhere. Lines of another kind, and those that do not lie
 * above the last one, are left out. */
void sf_maps_reset(void);
void sf_maps_add(const char *text, size_t bytes);

/* The mapping that contains `address`, or the next one above it, or NULL. */
const struct sf_map *sf_maps_at_or_above(uint64_t address);

/* The mapping that contains `address`, or NULL. */
const struct sf_map *sf_maps_find(uint64_t address);

/* True when the mapping has a file behind it (NT_FILE lists those). */
bool sf_map_is_file(const struct sf_map *map);

const char *sf_map_name(const struct sf_map *map);

#endif
