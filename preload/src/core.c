#include "core.h"

#include <linux/elf.h>
#include <stdbool.h>

#include "headroom.h"
#include "maps.h"
#include "modules.h"
#include "notes.h"
#include "places.h"
#include "ranges.h"
#include "stacks.h"
#include "sys.h"
#include "text.h"
#include "threads.h"

/* What is left out, in this order, as room gets scarce. */
enum level {
	LEVEL_ALL,
	LEVEL_CRASHING_THREAD,
	LEVEL_REGISTERS, /* no memory at all */
	LEVELS,
};

/* Part of a mapping: one PT_LOAD.  Every mapping appears, so that a reader
 * knows the address space; most have no content. */
struct piece {
	uint64_t start, end;
	uint32_t flags;
	bool saved;
};

struct piece_iterator {
	uint32_t map, range;
	uint64_t at;
};

static bool next_piece(struct piece_iterator *it, struct piece *ret)
{
	for (; it->map < sf_maps.count; it->map++) {
		const struct sf_map *map = &sf_maps.entry[it->map];
		uint64_t start = it->at > map->start ? it->at : map->start;
		uint64_t end = map->end;
		bool saved = false;

		/* [vsyscall] lies in the kernel's half. */
		if (start >= end || (int64_t)start < 0)
			continue;
		while (it->range < sf_ranges.count &&
		       sf_ranges.entry[it->range].end <= start)
			it->range++;
		if (it->range < sf_ranges.count) {
			const struct sf_range *r = &sf_ranges.entry[it->range];

			saved = r->start <= start;
			if (saved && r->end < end)
				end = r->end;
			else if (!saved && r->start < end)
				end = r->start;
		}
		it->at = end;
		*ret = (struct piece){start, end, map->flags,
				      saved && (map->flags & PF_R)};
		return true;
	}
	return false;
}

/* Without /proc the chosen ranges are all we know of the address space. */
static void assume_maps(void)
{
	for (uint32_t i = 0; i < sf_ranges.count; i++)
		sf_maps.entry[sf_maps.count++] = (struct sf_map){
			.start = sf_ranges.entry[i].start,
			.end = sf_ranges.entry[i].end,
			.flags = PF_R | PF_W,
		};
}

static void add_threads(void)
{
	for (uint32_t i = 0; i < sf_threads.count; i++)
		if (__atomic_load_n(&sf_threads.entry[i].parked,
				    __ATOMIC_ACQUIRE))
			sf_stack_add(sf_threads.entry[i].uc);
}

/* Chooses the memory, the most telling first; false when not even that of the
 * crashing thread fits. */
static bool choose(struct sf_crash *crash, const struct sf_notes *notes,
		   enum level level, uint64_t limit)
{
	sf_ranges_reset(level == LEVEL_REGISTERS ? 0 : limit);
	if (level == LEVEL_REGISTERS)
		return true;
	sf_stack_add(crash->uc);
	if (sf_stack_overflowed(crash->si, crash->uc)) {
		crash->note.flags |= SF_FLAG_STACK_OVERFLOW;
		sf_stack_add_oldest(crash->uc);
	}
	sf_modules_add(notes->auxv, notes->auxv_bytes);
	if (sf_ranges.truncated)
		return false;
	if (level == LEVEL_ALL)
		add_threads();
	if (sf_maps.count == 0)
		assume_maps();
	return true;
}

static void describe(struct sf_note *note, enum level level)
{
	const uint32_t ours = SF_FLAG_TRUNCATED | SF_FLAG_THREADS_MISSED |
			      SF_FLAG_LOW_MEMORY | SF_FLAG_REGISTERS_ONLY;

	note->flags &= ~ours;
	if (sf_ranges.truncated || sf_maps.truncated || level != LEVEL_ALL)
		note->flags |= SF_FLAG_TRUNCATED;
	if (sf_threads.captured < sf_threads.total)
		note->flags |= SF_FLAG_THREADS_MISSED;
	if (level != LEVEL_ALL)
		note->flags |= SF_FLAG_LOW_MEMORY;
	if (level == LEVEL_REGISTERS)
		note->flags |= SF_FLAG_REGISTERS_ONLY;
	note->threads = sf_threads.total + 1;
	note->threads_captured =
		1 + (level == LEVEL_ALL ? sf_threads.captured : 0);
}

static Elf64_Ehdr file_header(uint32_t phdrs)
{
	return (Elf64_Ehdr){
		/* lldb refuses a core of a musl process without the OSABI. */
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB,
			    EV_CURRENT, ELFOSABI_LINUX},
		.e_type = ET_CORE,
		.e_machine = SF_ELF_MACHINE,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = (uint16_t)phdrs,
	};
}

static void put_program_headers(struct sf_output *out, uint64_t notes_at,
				uint64_t notes_bytes, uint64_t data_at)
{
	struct piece_iterator it = {0};
	struct piece piece;
	Elf64_Phdr note = {
		.p_type = PT_NOTE,
		.p_offset = notes_at,
		.p_filesz = notes_bytes,
		.p_align = 4,
	};

	sf_output_put(out, &note, sizeof(note));
	while (next_piece(&it, &piece)) {
		uint64_t bytes = piece.end - piece.start;
		Elf64_Phdr load = {
			.p_type = PT_LOAD,
			.p_offset = data_at,
			.p_vaddr = piece.start,
			.p_filesz = piece.saved ? bytes : 0,
			.p_memsz = bytes,
			.p_flags = piece.flags,
			.p_align = SF_PAGE,
		};

		data_at += load.p_filesz;
		sf_output_put(out, &load, sizeof(load));
	}
}

/* As sf_write_memory, but secret bytes stay what they are in a new file: a hole
 * that reads as zeros. */
static int64_t write_public(const struct sf_notes *notes, int fd,
			    uint64_t offset, uint64_t address, uint64_t size)
{
	uint64_t end = address + size;
	uint64_t at = address;

	while (at < end) {
		struct sf_range secret = sf_notes_next_secret(notes, at);
		uint64_t stop = secret.start < end ? secret.start : end;
		int64_t written = sf_write_memory(fd, offset + (at - address),
						  at, stop - at);

		if (written < 0)
			return written;
		at += (uint64_t)written;
		if (at < stop)
			break;
		if (at == secret.start)
			at = secret.end < end ? secret.end : end;
	}
	return (int64_t)(at - address);
}

/* Copies the pages; one that cannot be read ends its segment early. */
static int write_memory(const struct sf_notes *notes, int fd, uint64_t data_at)
{
	struct piece_iterator it = {0};
	struct piece piece;
	uint64_t phdr = sizeof(Elf64_Ehdr);

	while (next_piece(&it, &piece)) {
		uint64_t bytes = piece.end - piece.start;
		int64_t written;

		phdr += sizeof(Elf64_Phdr);
		if (!piece.saved)
			continue;
		written = write_public(notes, fd, data_at, piece.start, bytes);
		if (written < 0)
			return (int)written;
		if ((uint64_t)written < bytes)
			sf_write_memory(fd,
					phdr + offsetof(Elf64_Phdr, p_filesz),
					(uint64_t)&written, sizeof(written));
		data_at += bytes;
	}
	return (int)sf_sys2(__NR_ftruncate, fd, data_at);
}

static uint32_t count_pieces(void)
{
	struct piece_iterator it = {0};
	struct piece piece;
	uint32_t count = 0;

	while (next_piece(&it, &piece))
		count++;
	return count;
}

static uint64_t notes_size(struct sf_notes *notes, struct sf_output *out)
{
	sf_output_open(out, SF_OUTPUT_COUNT_ONLY);
	sf_notes_put(notes, out);
	return out->offset;
}

static int write_level(int fd, struct sf_crash *crash, struct sf_notes *notes,
		       enum level level, uint64_t limit)
{
	static struct sf_output out;
	uint64_t notes_bytes = notes_size(notes, &out);
	/* At most: each mapping whole, a page for rounding. */
	uint64_t fixed =
		notes_bytes + SF_PAGE + sf_maps.count * sizeof(Elf64_Phdr);
	Elf64_Ehdr header;
	uint32_t phdrs;
	uint64_t notes_at;
	uint64_t data_at;

	if (fixed > limit || !choose(crash, notes, level, limit - fixed))
		return -ENOSPC;
	phdrs = 1 + count_pieces();
	header = file_header(phdrs);
	notes_at = sizeof(header) + phdrs * sizeof(Elf64_Phdr);
	data_at = (notes_at + notes_bytes + SF_PAGE - 1) & ~(SF_PAGE - 1);
	describe(&crash->note, level);
	sf_output_open(&out, fd);
	sf_output_put(&out, &header, sizeof(header));
	put_program_headers(&out, notes_at, notes_bytes, data_at);
	sf_notes_put(notes, &out);
	sf_output_align(&out, SF_PAGE);
	sf_output_flush(&out);
	crash->note_offset = notes->crash_note;
	return out.error ? out.error : write_memory(notes, fd, data_at);
}

/* Takes what the application told us; less text where there is little room. */
static void read_application(struct sf_crash *crash, struct sf_notes *notes,
			     enum level level)
{
	size_t most = level == LEVEL_REGISTERS ? SF_PAGE : SF_TEXT_BYTES;

	crash->note.text_bytes = (uint32_t)sf_annotations_text(
		&notes->text, most, crash->tls_base);
	crash->note.secrets = sf_secrets_read(&notes->secrets);
}

int sf_core_write(int fd, struct sf_crash *crash, const uint8_t *id)
{
	static struct sf_notes notes;
	uint64_t limit = sf_headroom(fd);
	int error = -ENOSPC;

	sf_places_freeze(crash->pid);
	sf_note_fill(crash, id);
	sf_maps_read();
	notes.crash = crash;
	notes.auxv_bytes = sf_auxv_read(notes.auxv);
	for (int level = LEVEL_ALL; level < LEVELS && error; level++) {
		notes.other_threads = level == LEVEL_ALL;
		read_application(crash, &notes, level);
		error = write_level(fd, crash, &notes, level, limit);
		if (error)
			sf_sys2(__NR_ftruncate, fd, 0);
	}
	return error;
}
