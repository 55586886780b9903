/* The definition of a symbol that comes after ours: dlsym(RTLD_NEXT) without
 * libdl, without its lock and without its allocations. */
#ifndef SF_NEXT_H
#define SF_NEXT_H

#include <stdint.h>

struct sf_symbol {
	uint64_t address; /* 0: not found */
	uint64_t size;	  /* bytes, 0 when unknown */
	uint64_t object;  /* where the object that defines it is loaded */
};

/* Walks the loader's link map, so callable from healthy code only (it reads
 * what the loader wrote); costs no system call. */
struct sf_symbol sf_next(const char *name);

struct sf_code {
	uint64_t start, end;
};

/* The segment of executable code that a symbol is in; empty without one. */
struct sf_code sf_code_of(const struct sf_symbol *symbol);

/* What the executable's DT_DEBUG and the loader's list look like. */
struct sf_link_map {
	uint64_t l_addr;
	uint64_t l_name; /* char * */
	uint64_t l_ld;	 /* Elf64_Dyn * */
	uint64_t l_next;
	uint64_t l_prev;
};

struct sf_r_debug {
	int32_t r_version;
	int32_t padding;
	uint64_t r_map;
	uint64_t r_brk;
	int32_t r_state;
	int32_t padding2;
	uint64_t r_ldbase;
};

/* The same in any list: the definition after the module whose dynamic section
 * is `dynamic`.
 *
 * Trusted, because the loader follows it in each of its own lookups and would
 * have crashed before us: every address (of maps, dynamic sections, tables),
 * that dynamic sections and names end, and that what a hash table points at is
 * mapped.  Not trusted: that the list and the hash chains end, that a table is
 * there, and what any symbol says. */
struct sf_symbol sf_next_after(const struct sf_link_map *map,
			       const void *dynamic, const char *name);

/* Longest list we follow: a corrupted one may be circular. */
#define SF_LINK_MAP_MAX 2048

#endif
