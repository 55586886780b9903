#include "modules.h"

#include <linux/auxvec.h>
#include <linux/elf.h>

#include "maps.h"
#include "next.h"
#include "ranges.h"
#include "sys.h"

#define PR_GET_AUXV 0x41555856 /* Linux 6.4, commit ddc65971bb67 */

#define NAME_BYTES    256 /* of a link_map's l_name */
#define DYNAMIC_BYTES 1024
#define PHDRS_MAX     64
#define MESSAGE_BYTES 1024 /* of what abort() printed */

/* glibc's, include/stdlib.h: what a failed check printed before its abort(),
 * as {unsigned size; char text[]}.  NULL until then; not there in musl. */
extern const uint64_t __abort_msg __attribute__((weak, visibility("default")));

size_t sf_auxv_read(uint64_t ret[SF_AUXV_BYTES / sizeof(uint64_t)])
{
	/* Works in a process that is not dumpable, where /proc/self/auxv
	 * belongs to root. */
	long got = sf_sys5(__NR_prctl, PR_GET_AUXV, ret, SF_AUXV_BYTES, 0, 0);

	if (got < 0) {
		int fd = sf_open(AT_FDCWD, "/proc/self/auxv", O_RDONLY, 0);

		if (fd < 0)
			return 0;
		got = sf_sys3(__NR_read, fd, ret, SF_AUXV_BYTES);
		sf_close(fd);
	}
	if (got < 0)
		return 0;
	return got > SF_AUXV_BYTES ? SF_AUXV_BYTES : (size_t)got;
}

static uint64_t auxv_value(const uint64_t *auxv, size_t bytes, uint64_t type)
{
	for (size_t i = 0; i + 1 < bytes / sizeof(*auxv); i += 2)
		if (auxv[i] == type)
			return auxv[i + 1];
	return 0;
}

static void add(uint64_t address, uint64_t bytes)
{
	sf_ranges_add(address, address + bytes);
}

/* Address of r_debug, with what leads there added; 0 if there is none. */
static uint64_t add_executable(uint64_t phdrs, uint64_t count)
{
	Elf64_Phdr phdr;
	Elf64_Dyn dyn;
	uint64_t bias = 0;
	uint64_t dynamic = 0;

	add(phdrs, count * sizeof(phdr));
	for (uint64_t i = 0; i < count && i < PHDRS_MAX; i++) {
		uint64_t at = phdrs + i * sizeof(phdr);

		if (sf_peek(at, &phdr, sizeof(phdr)))
			return 0;
		if (phdr.p_type == PT_PHDR) /* always before PT_DYNAMIC */
			bias = phdrs - phdr.p_vaddr;
		else if (phdr.p_type == PT_DYNAMIC) {
			dynamic = bias + phdr.p_vaddr;
			add(dynamic, phdr.p_memsz);
		}
	}
	for (; dynamic && sf_peek(dynamic, &dyn, sizeof(dyn)) == 0 &&
	       dyn.d_tag != DT_NULL;
	     dynamic += sizeof(dyn))
		if (dyn.d_tag == DT_DEBUG)
			return dyn.d_un.d_ptr;
	return 0;
}

static void add_link_map(uint64_t r_debug)
{
	struct sf_r_debug debug;
	struct sf_link_map map;

	if (sf_peek(r_debug, &debug, sizeof(debug)))
		return;
	add(r_debug, sizeof(debug));
	map.l_next = debug.r_map;
	for (int i = 0; map.l_next && i < SF_LINK_MAP_MAX; i++) {
		uint64_t at = map.l_next;

		if (sf_peek(at, &map, sizeof(map)))
			return;
		add(at, sizeof(map));
		if (map.l_name)
			add(map.l_name, NAME_BYTES);
		if (map.l_ld)
			add(map.l_ld, DYNAMIC_BYTES);
	}
}

/* Whether a mapping is of a file that is mapped as code, too: its mappings are
 * neighbours.  Other files' pages may be nobody's yet: to read one asks a FUSE
 * server, or a userfaultfd's monitor, and they need not answer. */
static bool is_code(uint32_t index)
{
	uint32_t name = sf_maps.entry[index].name;

	for (; index < sf_maps.count && sf_maps.entry[index].name == name;
	     index++)
		if (sf_maps.entry[index].flags & PF_X)
			return true;
	return false;
}

static void add_headers(void)
{
	for (uint32_t i = 0; i < sf_maps.count; i++) {
		const struct sf_map *map = &sf_maps.entry[i];
		uint32_t magic;

		if (map->offset == 0 && (map->flags & PF_R) &&
		    sf_map_is_file(map) && is_code(i) &&
		    sf_peek(map->start, &magic, sizeof(magic)) == 0 &&
		    magic == 0x464c457f) /* "\177ELF" */
			add(map->start, SF_PAGE);
	}
}

static void add_abort_message(void)
{
	uint64_t at = (uint64_t)&__abort_msg;
	uint64_t message;

	if (!at || sf_peek(at, &message, sizeof(message)) || !message)
		return;
	add(at, sizeof(message));
	add(message, MESSAGE_BYTES);
}

void sf_modules_add(const uint64_t *auxv, size_t auxv_bytes)
{
	const struct sf_map *vdso =
		sf_maps_find(auxv_value(auxv, auxv_bytes, AT_SYSINFO_EHDR));
	uint64_t phdrs = auxv_value(auxv, auxv_bytes, AT_PHDR);
	uint64_t r_debug = 0;

	if (phdrs)
		r_debug = add_executable(
			phdrs, auxv_value(auxv, auxv_bytes, AT_PHNUM));
	if (r_debug)
		add_link_map(r_debug);
	if (vdso)
		sf_ranges_add(vdso->start, vdso->end);
	add_abort_message();
	add_headers();
}
