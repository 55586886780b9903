/* Secret memory: a whole snapshot without one byte of it, and with every other
 * byte that was chosen.
 *
 * The memory is real: pages of several kinds, some that cannot be read though
 * the map says so.  Which of them the snapshot takes, in place of stacks and
 * modules, is input.
 *
 * input: the room, one byte; which pages are the crashing thread's stack, the
 * other thread's, and the modules', two bytes each.  Then ranges: a byte that
 * says where (or to remove one, or to overwrite the table), an address and a
 * size. */
#include "../src/secrets.c" /* also what is static: the table */

#include <linux/elf.h>
#include <linux/mman.h>

#include "core.h"
#include "fuzz.h"
#include "headroom.h"
#include "maps.h"
#include "notes.h"
#include "places.h"
#include "stacks.h"
#include "threads.h"

#define SEEK_END 2

#define PAGES	    16U
#define ARENA_BYTES (PAGES * SF_PAGE)
#define RANGES_MAX  200
#define ARGS_BYTES  80 /* pr_psargs */

/* Loops over all bytes, which tell libFuzzer nothing and would cost most. */
#define UNCOUNTED __attribute__((noinline, no_sanitize("coverage")))

struct sf_threads sf_threads;

static struct ucontext crashed, other;
static uint16_t pages_of_crashed, pages_of_other, pages_of_modules;
static uint64_t room;
static uint8_t *arena;

/* Assembly that arch.c names, and nobody calls here. */
void sf_after_handler(void)
{
}

/* What the parts that are not pure would have said. */
void sf_init(void)
{
}

uint64_t sf_headroom(int fd)
{
	(void)fd;
	return room;
}

static void add_pages(uint16_t pages)
{
	for (uint32_t i = 0; i < PAGES; i++)
		if (pages >> i & 1)
			sf_ranges_add((uint64_t)arena + i * SF_PAGE,
				      (uint64_t)arena + (i + 1) * SF_PAGE);
}

void sf_stack_add(const struct ucontext *uc)
{
	add_pages(uc == &crashed ? pages_of_crashed : pages_of_other);
}

void sf_stack_add_oldest(const struct ucontext *uc)
{
	(void)uc;
}

bool sf_stack_overflowed(const siginfo_t *si, const struct ucontext *uc)
{
	(void)si;
	(void)uc;
	return false;
}

size_t sf_auxv_read(uint64_t ret[SF_AUXV_BYTES / sizeof(uint64_t)])
{
	(void)ret;
	return 0;
}

void sf_modules_add(const uint64_t *auxv, size_t auxv_bytes)
{
	(void)auxv;
	(void)auxv_bytes;
	add_pages(pages_of_modules);
}

static uint8_t *map(void *at, uint64_t pages, int protection, int flags, int fd)
{
	long got = sf_sys6(__NR_mmap, at, pages * SF_PAGE, protection,
			   MAP_PRIVATE | flags, fd, 0);

	CHECK(got > 0);
	return (uint8_t *)got;
}

/* Pages 4 to 7 are of a file that ends after 5; 12 has no permission, nor have
 * those on either side, so that the arena is no part of another mapping. */
static bool mapped_readable(uint32_t page)
{
	return page != 12;
}

static bool readable(uint32_t page)
{
	return mapped_readable(page) && page != 6 && page != 7;
}

static void make_arena(void)
{
	const int all = PROT_READ | PROT_WRITE;
	int fd = (int)sf_sys2(__NR_memfd_create, "short", 0);

	CHECK(fd >= 0 && sf_sys2(__NR_ftruncate, fd, 2 * SF_PAGE) == 0);
	arena = map(NULL, PAGES + 2, PROT_NONE, MAP_ANONYMOUS, -1) + SF_PAGE;
	map(arena, PAGES, all, MAP_ANONYMOUS | MAP_FIXED, -1);
	map(arena + 4 * SF_PAGE, 4, all, MAP_FIXED, fd);
	for (uint32_t i = 0; i < ARENA_BYTES; i++)
		if (readable(i / SF_PAGE))
			arena[i] = (uint8_t)(1 + i * 37 % 255);
	CHECK(sf_sys3(__NR_mprotect, arena + 12 * SF_PAGE, SF_PAGE,
		      PROT_NONE) == 0);
}

/* What was asked for and is in force. */
static struct sf_note_secret asked[STILLFRAME_SECRETS];
static uint32_t count;
static uint32_t stuck; /* places of calls that never came back */

/* Neither empty nor beyond the end, which only an overwritten table has. */
static bool is_range(struct sf_note_secret range)
{
	return range.size > 0 && range.address <= ~0ULL - range.size;
}

static bool is_secret(uint64_t address)
{
	for (uint32_t i = 0; i < count; i++)
		if (is_range(asked[i]) && address >= asked[i].address &&
		    address - asked[i].address < asked[i].size)
			return true;
	return false;
}

static bool secret_byte[ARENA_BYTES];

UNCOUNTED static void mark_secret_bytes(void)
{
	static int8_t
		begin[ARENA_BYTES + 1]; /* ranges here, less those ended */
	uint64_t start = (uint64_t)arena;
	int inside = 0;

	begin[ARENA_BYTES] = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t from = asked[i].address;
		uint64_t past = from + asked[i].size;

		from = from < start ? start : from;
		past = past < start + ARENA_BYTES ? past : start + ARENA_BYTES;
		if (is_range(asked[i]) && from < past) {
			begin[from - start]++;
			begin[past - start]--;
		}
	}
	for (uint32_t i = 0; i < ARENA_BYTES; i++) {
		inside += begin[i];
		secret_byte[i] = inside > 0;
		begin[i] = 0;
	}
}

static uint64_t args_start(void)
{
	static uint64_t start;

	if (!start)
		start = sf_own_stat_field(48);
	CHECK(start != 0);
	return start;
}

/* In the arena, around the command line, or anywhere. */
static struct sf_note_secret take_range(struct input *in, uint8_t where)
{
	struct sf_note_secret range;
	uint16_t near[2];

	if (where & 1) {
		range.address = take_word(in);
		range.size = take_word(in);
		return range;
	}
	take(in, near, sizeof(near));
	if (where & 2)
		return (struct sf_note_secret){
			args_start() + near[0] % 128 - 32, near[1] % 64};
	return (struct sf_note_secret){(uint64_t)arena + near[0] - SF_PAGE,
				       near[1] >> near[1] % 16};
}

static void add(struct sf_note_secret range)
{
	int expected = !is_range(range)			    ? STILLFRAME_INVALID
		       : count + stuck < STILLFRAME_SECRETS ? STILLFRAME_OK
							    : STILLFRAME_FULL;

	CHECK(stillframe_secret_add_v1((void *)range.address, range.size) ==
	      expected);
	if (!expected)
		asked[count++] = range;
}

static void drop(struct sf_note_secret range)
{
	int expected = STILLFRAME_INVALID;

	for (uint32_t i = 0; is_range(range) && i < count && expected; i++)
		if (asked[i].address == range.address &&
		    asked[i].size == range.size) {
			asked[i] = asked[--count];
			expected = STILLFRAME_OK;
		}
	CHECK(stillframe_secret_remove_v1((void *)range.address, range.size) ==
	      expected);
}

/* A crash wrote over the table: what it says then is what counts. */
static void overwrite(struct input *in)
{
	uint32_t place = take_byte(in) % STILLFRAME_SECRETS;
	struct sf_note_secret range = take_range(in, take_byte(in));

	states[place] = take_byte(in) % 4;
	memcpy(&values[place * WORDS], &range, sizeof(range));
	count = 0;
	stuck = 0;
	for (uint32_t i = 0; i < STILLFRAME_SECRETS; i++)
		if (states[i] == SF_PLACE_FILLING)
			stuck++;
		else if (states[i] >= SF_PLACE_FIRST)
			memcpy(&asked[count++], &values[i * WORDS],
			       sizeof(*asked));
}

static void take_ranges(struct input *in)
{
	memset(states, 0, sizeof(states));
	count = 0;
	stuck = 0;
	for (int i = 0; in->left > 0 && i < RANGES_MAX; i++) {
		uint8_t what = take_byte(in);
		struct sf_note_secret range = take_range(in, what);

		if (what >= 240)
			overwrite(in);
		else if (what >= 200)
			drop(count ? asked[what % count] : range);
		else
			add(range);
	}
}

/* All of them, and in order. */
static void check_table(void)
{
	const struct sf_note_secret *sorted;
	uint32_t found = sf_secrets_read(&sorted);
	bool used[STILLFRAME_SECRETS] = {false};

	CHECK(found == count);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = 0;

		CHECK(i == 0 || sorted[i - 1].address <= sorted[i].address);
		while (at < count &&
		       (used[at] || asked[at].address != sorted[i].address ||
			asked[at].size != sorted[i].size))
			at++;
		CHECK(at < count);
		used[at] = true;
	}
}

static bool is_chosen(uint64_t address)
{
	for (uint32_t i = 0; i < sf_ranges.count; i++)
		if (sf_ranges.entry[i].start <= address &&
		    address < sf_ranges.entry[i].end)
			return true;
	return false;
}

/* Where the first page of the segment lies that nobody can read and nobody
 * declared secret: there it has to end. */
UNCOUNTED static uint64_t readable_bytes(uint32_t from, uint64_t size)
{
	for (uint32_t i = from; i < from + size; i++)
		if (!readable(i / SF_PAGE) && !secret_byte[i])
			return i - from;
	return size;
}

/* One segment of the arena: its size, and each byte of it. */
UNCOUNTED static void check_segment(const Elf64_Phdr *load,
				    const uint8_t *content)
{
	uint32_t from = (uint32_t)(load->p_vaddr - (uint64_t)arena);
	bool saved = is_chosen(load->p_vaddr) && (load->p_flags & PF_R);
	uint64_t bytes = saved ? readable_bytes(from, load->p_memsz) : 0;

	CHECK(load->p_filesz == bytes);
	for (uint64_t at = 0; at < load->p_memsz; at += SF_PAGE)
		CHECK(is_chosen(load->p_vaddr + at) ==
		      is_chosen(load->p_vaddr));
	for (uint64_t i = 0; saved && i < load->p_memsz; i++)
		if (i < bytes && !secret_byte[from + i])
			CHECK(content[i] == arena[from + i]);
		else
			CHECK(content[i] == 0);
}

static void check_segments(const uint8_t *file, uint64_t size)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
	const Elf64_Phdr *segment = (const Elf64_Phdr *)(header + 1);
	uint64_t end = 0;
	uint64_t in_arena = 0;

	CHECK(size >= sizeof(*header) + header->e_phnum * sizeof(*segment));
	for (uint32_t i = 0; i < header->e_phnum; i++, segment++) {
		if (segment->p_type == PT_NOTE) {
			end = segment->p_offset + segment->p_filesz;
			end = (end + SF_PAGE - 1) & ~(SF_PAGE - 1);
		} else if (segment->p_vaddr < (uint64_t)arena ||
			   segment->p_vaddr >= (uint64_t)arena + ARENA_BYTES) {
			CHECK(segment->p_filesz == 0);
		} else {
			in_arena += segment->p_memsz;
			CHECK(segment->p_offset == end);
			if (is_chosen(segment->p_vaddr) &&
			    (segment->p_flags & PF_R))
				end += segment->p_memsz;
			CHECK(end <= size);
			check_segment(segment, file + segment->p_offset);
		}
	}
	CHECK(in_arena == ARENA_BYTES && end == size);
}

/* NT_PRPSINFO is the second note, behind NT_PRSTATUS. */
static void check_command_line(const uint8_t *notes)
{
	static char real[ARGS_BYTES];
	const Elf64_Nhdr *note = (const Elf64_Nhdr *)notes;
	const char *shown;
	long bytes = sf_read_file("/proc/self/cmdline", real, sizeof(real));

	notes += sizeof(*note) + 8 + ((note->n_descsz + 3) & ~3U);
	note = (const Elf64_Nhdr *)notes;
	CHECK(note->n_type == NT_PRPSINFO && note->n_descsz == 136);
	shown = (const char *)notes + sizeof(*note) + 8 + 136 - ARGS_BYTES;
	for (long i = 0; i + 1 < bytes; i++)
		CHECK(shown[i] ==
		      (is_secret(args_start() + (uint64_t)i) || real[i] == '\0'
			       ? ' '
			       : real[i]));
}

static void write_and_check(struct sf_crash *crash)
{
	static const uint8_t id[16];
	int fd = scratch_file();
	int error = sf_core_write(fd, crash, id);
	long size = sf_sys3(__NR_lseek, fd, 0, SEEK_END);
	const Elf64_Phdr *note;
	uint8_t *file;

	if (error) {
		CHECK(error == -ENOSPC && size == 0);
		return;
	}
	file = malloc((size_t)size);
	CHECK((uint64_t)size <= room);
	CHECK(sf_sys4(__NR_pread64, fd, file, size, 0) == size);
	check_segments(file, (uint64_t)size);
	note = (const Elf64_Phdr *)(file + sizeof(Elf64_Ehdr));
	check_command_line(file + note->p_offset);
	free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static siginfo_t si;
	struct sf_crash crash = {
		.si = &si, .uc = &crashed, .pid = sf_getpid(), .tid = 1};
	struct input in = {bytes, size};

	if (!arena)
		make_arena();
	room = take_byte(&in);
	room = room < 192 ? 1 << 20 : room % 64 * 4096;
	take(&in, &pages_of_crashed, sizeof(pages_of_crashed));
	take(&in, &pages_of_other, sizeof(pages_of_other));
	take(&in, &pages_of_modules, sizeof(pages_of_modules));
	sf_threads.count = sf_threads.total = sf_threads.captured = 1;
	sf_threads.entry[0] = (struct sf_thread){2, 1, &other, 0};
	sf_places_freeze(0);
	take_ranges(&in);
	check_table();
	mark_secret_bytes();
	write_and_check(&crash);
	CHECK(stillframe_secret_add_v1(arena, 1) == STILLFRAME_BUSY);
	return 0;
}
