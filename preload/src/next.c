#include "next.h"

#include <linux/auxvec.h>
#include <linux/elf.h>
#include <stdbool.h>

#include "text.h"

#ifndef DT_GNU_HASH
#define DT_GNU_HASH 0x6ffffef5
#endif
#define VERSYM_HIDDEN 0x8000
#define ELF_MAGIC     0x464c457fU /* "\177ELF" */

/* Longest hash chain we follow; linkers make them a few symbols long. */
#define CHAIN_MAX 4096

extern unsigned long getauxval(unsigned long type)
	__attribute__((weak, visibility("default")));
extern const Elf64_Dyn _DYNAMIC[] __attribute__((visibility("hidden")));

/* The dynamic table of one loaded object, decoded. */
struct object {
	const Elf64_Sym *symbols;
	const char *names;
	const uint32_t *gnu_hash; /* NULL in libraries linked for old loaders */
	const uint32_t *hash;
	const uint16_t *versions;
};

static const struct sf_r_debug *r_debug(void)
{
	if (!getauxval)
		return NULL;

	const Elf64_Phdr *phdr = (const Elf64_Phdr *)getauxval(AT_PHDR);
	unsigned long count = getauxval(AT_PHNUM);
	const Elf64_Dyn *dynamic = NULL;
	uint64_t bias = 0;

	for (unsigned long i = 0; phdr && i < count; i++)
		if (phdr[i].p_type == PT_PHDR)
			bias = (uint64_t)phdr - phdr[i].p_vaddr;
	for (unsigned long i = 0; phdr && i < count; i++)
		if (phdr[i].p_type == PT_DYNAMIC)
			dynamic = (const void *)(bias + phdr[i].p_vaddr);
	for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++)
		if (dynamic->d_tag == DT_DEBUG)
			return (const struct sf_r_debug *)dynamic->d_un.d_ptr;
	return NULL;
}

/* glibc relocates these pointers in place, musl and the vDSO do not. */
static const void *pointer(const struct sf_link_map *map, uint64_t value)
{
	return (const void *)(value < map->l_addr ? value + map->l_addr
						  : value);
}

static struct object decode(const struct sf_link_map *map)
{
	struct object o = {NULL, NULL, NULL, NULL, NULL};
	const Elf64_Dyn *dyn = (const Elf64_Dyn *)map->l_ld;

	for (; dyn->d_tag != DT_NULL; dyn++) {
		const void *at = pointer(map, dyn->d_un.d_ptr);

		if (dyn->d_tag == DT_SYMTAB)
			o.symbols = at;
		else if (dyn->d_tag == DT_STRTAB)
			o.names = at;
		else if (dyn->d_tag == DT_GNU_HASH)
			o.gnu_hash = at;
		else if (dyn->d_tag == DT_HASH)
			o.hash = at;
		else if (dyn->d_tag == DT_VERSYM)
			o.versions = at;
	}
	return o;
}

static uint32_t gnu_hash(const char *name)
{
	uint32_t hash = 5381;

	for (; *name != '\0'; name++)
		hash = hash * 33 + (uint8_t)*name;
	return hash;
}

/* The gABI's, of DT_HASH. */
static uint32_t sysv_hash(const char *name)
{
	uint32_t hash = 0;

	for (; *name != '\0'; name++) {
		hash = (hash << 4) + (uint8_t)*name;
		hash ^= hash >> 24 & 0xf0;
		hash &= 0x0fffffff;
	}
	return hash;
}

/* True for a default-version function definition of `name`. */
static bool defines(const struct object *o, uint32_t i, const char *name)
{
	const Elf64_Sym *symbol = &o->symbols[i];

	return !(o->versions && (o->versions[i] & VERSYM_HIDDEN)) &&
	       symbol->st_shndx != SHN_UNDEF &&
	       ELF64_ST_TYPE(symbol->st_info) == STT_FUNC &&
	       sf_equal(o->names + symbol->st_name, name);
}

static const Elf64_Sym *find_gnu(const struct object *o, const char *name)
{
	const uint32_t *table = o->gnu_hash;
	uint32_t hash = gnu_hash(name);
	uint32_t buckets = table[0];
	uint32_t first = table[1];
	const uint32_t *bucket = table + 4 + (size_t)table[2] * 2;
	const uint32_t *chain = bucket + buckets;
	uint32_t i = buckets ? bucket[hash % buckets] : 0;

	if (i < first)
		return NULL;
	for (uint32_t last = i + CHAIN_MAX; i != last; i++) {
		uint32_t entry = chain[i - first];

		if ((entry | 1) == (hash | 1) && defines(o, i, name))
			return &o->symbols[i];
		if (entry & 1)
			return NULL;
	}
	return NULL;
}

static const Elf64_Sym *find_sysv(const struct object *o, const char *name)
{
	uint32_t buckets = o->hash[0];
	uint32_t symbols = o->hash[1];
	const uint32_t *bucket = o->hash + 2;
	const uint32_t *chain = bucket + buckets;
	uint32_t i = buckets ? bucket[sysv_hash(name) % buckets] : 0;

	for (int steps = 0; i != 0 && i < symbols && steps < CHAIN_MAX;
	     i = chain[i], steps++)
		if (defines(o, i, name))
			return &o->symbols[i];
	return NULL;
}

static const Elf64_Sym *find(const struct object *o, const char *name)
{
	if (!o->symbols || !o->names)
		return NULL;
	if (o->gnu_hash)
		return find_gnu(o, name);
	return o->hash ? find_sysv(o, name) : NULL;
}

struct sf_symbol sf_next_after(const struct sf_link_map *map,
			       const void *dynamic, const char *name)
{
	bool after = false;

	for (int i = 0; map && i < SF_LINK_MAP_MAX; i++) {
		if (after) {
			struct object o = decode(map);
			const Elf64_Sym *symbol = find(&o, name);

			if (symbol)
				return (struct sf_symbol){
					map->l_addr + symbol->st_value,
					symbol->st_size, map->l_addr};
		}
		after |= map->l_ld == (uint64_t)dynamic;
		map = (const struct sf_link_map *)map->l_next;
	}
	return (struct sf_symbol){0, 0, 0};
}

struct sf_code sf_code_of(const struct sf_symbol *symbol)
{
	const Elf64_Ehdr *elf = (const Elf64_Ehdr *)symbol->object;
	const Elf64_Phdr *phdr;

	if (!elf || *(const uint32_t *)elf->e_ident != ELF_MAGIC)
		return (struct sf_code){0, 0};
	phdr = (const void *)(symbol->object + elf->e_phoff);
	for (int i = 0; i < elf->e_phnum; i++, phdr++) {
		uint64_t start = symbol->object + phdr->p_vaddr;

		if (phdr->p_type == PT_LOAD && (phdr->p_flags & PF_X) &&
		    symbol->address - start < phdr->p_memsz)
			return (struct sf_code){start, start + phdr->p_memsz};
	}
	return (struct sf_code){0, 0};
}

struct sf_symbol sf_next(const char *name)
{
	const struct sf_r_debug *debug = r_debug();

	return sf_next_after(debug ? (const struct sf_link_map *)debug->r_map
				   : NULL,
			     _DYNAMIC, name);
}
