/* The lookup of a symbol in the loader's list: right in any well-formed one,
 * and alive in any that keeps what next.h trusts.
 *
 * input: a byte, whose lowest bit chooses; the objects. */
#include "next.h"

#include <linux/elf.h>
#include <linux/mman.h>

#include "fuzz.h"

#define OBJECTS	    4
#define OBJECT_SIZE 4096
#define SYMBOLS	    16
#define BUCKETS	    4
#define DT_GNU_HASH 0x6ffffef5
#define DT_VERSYM   0x6ffffff0

/* What the indexes of a hash table can reach: 32 bits of symbols, and more. */
#define RESERVE_BYTES (1UL << 38)

/* One shared object as far as a lookup sees it. */
struct object {
	Elf64_Dyn dynamic[8];
	uint32_t hash[4];
	uint64_t bloom;
	uint32_t table[BUCKETS + SYMBOLS];
	Elf64_Sym symbol[SYMBOLS];
	uint16_t version[SYMBOLS];
	char names[4 * SYMBOLS];
};

struct arena {
	struct sf_link_map map[OBJECTS];
	union {
		struct object object;
		uint8_t bytes[OBJECT_SIZE];
	} at[OBJECTS];
};

static struct arena *arena(void)
{
	static struct arena *mapped;

	if (!mapped) {
		long at = sf_sys6(__NR_mmap, 0, RESERVE_BYTES, PROT_READ,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				  -1, 0);

		CHECK(at > 0);
		mapped = (struct arena *)at;
		CHECK(sf_sys3(__NR_mprotect, at, (sizeof(*mapped) | 4095) + 1,
			      PROT_READ | PROT_WRITE) == 0);
	}
	return mapped;
}

static uint32_t hash_of(const char *name)
{
	uint32_t hash = 5381;

	while (*name != '\0')
		hash = (hash << 5) + hash + (uint8_t)*name++;
	return hash;
}

/* Names of one or two letters: many are the same. */
static void take_symbol(struct input *in, struct object *o, uint32_t i)
{
	uint8_t letters = take_byte(in);
	uint8_t kind = take_byte(in);
	char *name = o->names + (size_t)4 * i;

	name[0] = (char)('a' + (letters & 3));
	name[1] = (char)(letters & 4 ? 'a' + (letters >> 3 & 3) : '\0');
	name[2] = '\0';
	o->symbol[i] = (Elf64_Sym){
		.st_name = 4 * i,
		.st_info = kind & 1 ? STT_FUNC : STT_OBJECT,
		.st_shndx = kind & 6 ? 1 : SHN_UNDEF,
		.st_value = 0x1000 + 16 * i,
		.st_size = 1 + i,
	};
	o->version[i] = (uint16_t)(kind & 8 ? 0x8002 : 2);
}

/* Hash chains need the symbols of a bucket next to each other. */
static void sort(struct object *o, uint32_t count, uint32_t buckets)
{
	for (uint32_t i = 1; i < count; i++)
		for (uint32_t j = i; j > 1; j--) {
			Elf64_Sym *a = &o->symbol[j - 1];
			Elf64_Sym *b = &o->symbol[j];
			Elf64_Sym other = *a;
			uint16_t version = o->version[j - 1];

			if (hash_of(o->names + a->st_name) % buckets <=
			    hash_of(o->names + b->st_name) % buckets)
				break;
			*a = *b;
			*b = other;
			o->version[j - 1] = o->version[j];
			o->version[j] = version;
		}
}

static void take_object(struct input *in, struct object *o, uint64_t bias)
{
	uint32_t count = 1 + take_byte(in) % SYMBOLS;
	uint32_t buckets = 1 + take_byte(in) % BUCKETS;
	bool versions = take_byte(in) & 1;
	uint32_t *chain = o->table + buckets;

	memset(o, 0, sizeof(*o));
	for (uint32_t i = 1; i < count; i++)
		take_symbol(in, o, i);
	sort(o, count, buckets);
	o->hash[0] = buckets;
	o->hash[1] = 1;
	o->hash[2] = 1;
	for (uint32_t i = count - 1; i > 0; i--) {
		uint32_t hash = hash_of(o->names + o->symbol[i].st_name);
		uint32_t *bucket = &o->table[hash % buckets];

		chain[i - 1] = *bucket ? hash & ~1U : hash | 1;
		*bucket = i;
	}
	o->dynamic[0] =
		(Elf64_Dyn){DT_STRTAB, {.d_ptr = (uint64_t)o->names - bias}};
	o->dynamic[1] =
		(Elf64_Dyn){DT_SYMTAB, {.d_ptr = (uint64_t)o->symbol - bias}};
	o->dynamic[2] =
		(Elf64_Dyn){DT_GNU_HASH, {.d_ptr = (uint64_t)o->hash - bias}};
	if (versions)
		o->dynamic[3] = (Elf64_Dyn){
			DT_VERSYM, {.d_ptr = (uint64_t)o->version - bias}};
}

/* What the lookup has to find in one object: the first in the table. */
static const Elf64_Sym *expected(const struct object *o, const char *name)
{
	for (uint32_t i = 1; i < SYMBOLS; i++) {
		const Elf64_Sym *s = &o->symbol[i];

		if (s->st_name && sf_equal(o->names + s->st_name, name) &&
		    s->st_info == STT_FUNC && s->st_shndx != SHN_UNDEF &&
		    !(o->dynamic[3].d_tag && (o->version[i] & 0x8000)))
			return s;
	}
	return NULL;
}

static void check_well_formed(struct input *in)
{
	struct arena *a = arena();
	uint32_t us = take_byte(in) % OBJECTS;
	char name[3] = {(char)('a' + take_byte(in) % 4), '\0', '\0'};
	struct sf_symbol want = {0, 0, 0};
	struct sf_symbol found;

	for (uint32_t i = 0; i < OBJECTS; i++) {
		struct object *o = &a->at[i].object;
		uint64_t bias = take_byte(in) & 1 ? (uint64_t)o : 0;
		const Elf64_Sym *symbol;

		take_object(in, o, bias);
		a->map[i] = (struct sf_link_map){
			.l_addr = (uint64_t)o,
			.l_ld = (uint64_t)o->dynamic,
			.l_next =
				i + 1 < OBJECTS ? (uint64_t)&a->map[i + 1] : 0,
		};
		symbol = i > us && !want.address ? expected(o, name) : NULL;
		if (symbol)
			want = (struct sf_symbol){(uint64_t)o +
							  symbol->st_value,
						  symbol->st_size, (uint64_t)o};
	}
	found = sf_next_after(a->map, a->at[us].object.dynamic, name);
	CHECK(found.address == want.address && found.size == want.size &&
	      found.object == want.object);
}

/* Any bytes, but for the addresses, which lead to any aligned place. */
static void survive_any(struct input *in)
{
	static const int64_t tags[] = {DT_STRTAB, DT_SYMTAB, DT_GNU_HASH,
				       DT_VERSYM, DT_NULL,   DT_NEEDED};
	struct arena *a = arena();

	for (uint32_t i = 0; i < OBJECTS; i++) {
		uint8_t next = take_byte(in);
		uint8_t shape = take_byte(in);
		uint64_t base = (uint64_t)&a->at[i];
		Elf64_Dyn *dynamic = (Elf64_Dyn *)(base + shape % 16 * 8UL);
		Elf64_Dyn entries[8];

		a->map[i] = (struct sf_link_map){
			.l_addr = shape & 128 ? base : 0,
			.l_ld = (uint64_t)dynamic,
			/* Rarely back: 2048 lookups in the same take long. */
			.l_next = next >= 224
					  ? (uint64_t)&a->map[next % OBJECTS]
				  : i + 1 < OBJECTS ? (uint64_t)&a->map[i + 1]
						    : 0,
		};
		for (int e = 0; e < 8; e++) {
			uint64_t offset = take_byte(in) * 8UL;

			entries[e].d_tag = tags[take_byte(in) % 6];
			entries[e].d_un.d_ptr = base + offset;
			if (a->map[i].l_addr && (shape & 64))
				entries[e].d_un.d_ptr = offset;
		}
		take(in, &a->at[i], OBJECT_SIZE / 4);
		memcpy(dynamic, entries, sizeof(entries));
	}
	sf_next_after(a->map, (const void *)a->map[0].l_ld, "f");
	sf_next_after(a->map, (const void *)a->map[0].l_ld, "");
	sf_next_after(NULL, NULL, "f");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input in = {bytes, size};

	if (take_byte(&in) & 1)
		survive_any(&in);
	else
		check_well_formed(&in);
	return 0;
}
