/* The writer of the notes, read back by a walker of its own: any crash.
 *
 * input: counts; the crash; siginfo and ucontext of each thread; the text of
 * maps. */
#include "notes.h"

#include <linux/elf.h>

#include "fuzz.h"
#include "maps.h"
#include "threads.h"

#define SECRETS_MAX 8
#define TEXT_MAX    64
#define THREADS_MAX 8

/* Its owner is threads.c, which is no pure part. */
struct sf_threads sf_threads;

/* Assembly that arch.c names, and nobody calls here. */
void sf_after_handler(void)
{
}

static struct ucontext contexts[THREADS_MAX + 1];
static struct sf_fpregs fpregs[THREADS_MAX + 1];

static const struct ucontext *take_context(struct input *in, int which,
					   bool floating)
{
	struct ucontext *uc = &contexts[which];

	take(in, uc, sizeof(*uc));
	take(in, &fpregs[which], sizeof(fpregs[which]));
	/* The kernel's pointer: a frame that it wrote, or none. */
	uc->uc_mcontext.fpstate = floating ? (void *)&fpregs[which] : NULL;
	return uc;
}

static void take_threads(struct input *in, uint32_t count, uint8_t floating)
{
	memset(&sf_threads, 0, sizeof(sf_threads));
	sf_threads.count = count;
	for (uint32_t i = 0; i < count; i++) {
		struct sf_thread *t = &sf_threads.entry[i];

		t->tid = (int)take_word(in);
		t->parked = take_byte(in) & 1;
		t->tls_base = take_word(in);
		t->uc = take_context(in, (int)i + 1, floating & 2 << i);
	}
}

struct walk {
	const uint8_t *bytes;
	uint64_t size;
	uint64_t at;
	const char *owner;
	uint32_t type;
	const uint8_t *desc;
	uint32_t desc_bytes;
};

static uint32_t word(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
	       (uint32_t)at[3] << 24;
}

static uint64_t long_word(const uint8_t *at)
{
	return word(at) | (uint64_t)word(at + 4) << 32;
}

/* One note by the gABI: three words, name and descriptor, each padded. */
static bool next_note(struct walk *w)
{
	uint32_t name_bytes;

	if (w->at == w->size)
		return false;
	CHECK(w->at + 12 <= w->size);
	name_bytes = word(w->bytes + w->at);
	w->desc_bytes = word(w->bytes + w->at + 4);
	w->type = word(w->bytes + w->at + 8);
	w->owner = (const char *)w->bytes + w->at + 12;
	CHECK(name_bytes > 0 && w->at + 12 + name_bytes <= w->size);
	CHECK(w->owner[name_bytes - 1] == '\0');
	w->desc = w->bytes + w->at + 12 + (name_bytes + 3) / 4 * 4;
	w->at = (uint64_t)(w->desc - w->bytes) + (w->desc_bytes + 3ULL) / 4 * 4;
	CHECK(w->at <= w->size);
	return true;
}

static void check_files(const struct walk *note)
{
	uint64_t count = long_word(note->desc);
	const char *name =
		(const char *)note->desc + 16 + count * 3 * sizeof(uint64_t);
	const char *end = (const char *)note->desc + note->desc_bytes;
	uint64_t seen = 0;

	CHECK(long_word(note->desc + 8) == SF_PAGE && name <= end);
	for (uint32_t i = 0; i < sf_maps.count; i++) {
		const struct sf_map *map = &sf_maps.entry[i];
		const uint8_t *file = note->desc + 16 + seen * 24;

		if (!sf_map_is_file(map))
			continue;
		CHECK(seen < count);
		CHECK(long_word(file) == map->start);
		CHECK(long_word(file + 8) == map->end);
		CHECK(long_word(file + 16) == map->offset / SF_PAGE);
		CHECK(name < end && sf_equal(name, sf_map_name(map)));
		name += sf_strlen(name) + 1;
		seen++;
	}
	CHECK(seen == count && name == end);
}

/* Offsets of struct elf_prstatus on x86_64: <sys/procfs.h>. */
enum { PRSTATUS_BYTES = 336, PR_PID = 32, PR_REG = 112, PR_RIP = 112 + 16 * 8 };

static void check_prstatus(const struct walk *note, int tid,
			   const struct ucontext *uc, int sig)
{
	CHECK(note->type == NT_PRSTATUS && note->desc_bytes == PRSTATUS_BYTES);
	CHECK((int)word(note->desc) == sig);
	CHECK((int)word(note->desc + PR_PID) == tid);
	CHECK(long_word(note->desc + PR_RIP) == sf_pc(uc));
}

static void check_fpregs(const struct walk *note, const struct ucontext *uc)
{
	const uint8_t *theirs = (const uint8_t *)sf_fpregs_from(uc);

	CHECK(note->type == NT_PRFPREG);
	CHECK(note->desc_bytes == sizeof(struct sf_fpregs));
	for (uint32_t i = 0; i < note->desc_bytes; i++)
		CHECK(note->desc[i] == theirs[i]);
}

static void check_thread(struct walk *w, int tid, const struct ucontext *uc,
			 int sig)
{
	CHECK(next_note(w));
	check_prstatus(w, tid, uc, sig);
	if (sf_fpregs_from(uc)) {
		CHECK(next_note(w));
		check_fpregs(w, uc);
	}
}

static void check_plain(struct walk *w, uint32_t type, const void *bytes,
			uint64_t size)
{
	const uint8_t *expected = bytes;

	CHECK(next_note(w) && sf_equal(w->owner, "CORE"));
	CHECK(w->type == type && w->desc_bytes == size);
	for (uint64_t i = 0; expected && i < size; i++)
		CHECK(w->desc[i] == expected[i]);
}

static void check(struct walk *w, const struct sf_notes *notes)
{
	const struct sf_crash *crash = notes->crash;
	int sig = crash->si->si_signo;
	const uint8_t *ours = (const uint8_t *)&crash->note;

	CHECK(next_note(w));
	check_prstatus(w, crash->tid, crash->uc, sig);
	check_plain(w, NT_PRPSINFO, NULL, 136);
	check_plain(w, NT_SIGINFO, crash->si, 128);
	check_plain(w, NT_AUXV, notes->auxv, notes->auxv_bytes);
	CHECK(next_note(w) && w->type == NT_FILE);
	check_files(w);
	if (sf_fpregs_from(crash->uc)) {
		CHECK(next_note(w));
		check_fpregs(w, crash->uc);
	}
	for (uint32_t i = 0; notes->other_threads && i < sf_threads.count; i++)
		if (sf_threads.entry[i].parked)
			check_thread(w, sf_threads.entry[i].tid,
				     sf_threads.entry[i].uc, sig);
	CHECK(next_note(w) && sf_equal(w->owner, "STILLFRAME"));
	CHECK(w->type == SF_NOTE_CRASH &&
	      w->desc_bytes == sizeof(crash->note) +
				       crash->note.secrets *
					       sizeof(struct sf_note_secret) +
				       crash->note.text_bytes);
	CHECK((uint64_t)(w->desc - w->bytes) == notes->crash_note);
	for (uint32_t i = 0; i < sizeof(crash->note); i++)
		CHECK(w->desc[i] == ours[i]);
	CHECK(!next_note(w));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct sf_notes notes;
	static struct sf_output out;
	static struct sf_crash crash;
	struct input in = {bytes, size};
	uint32_t count = take_byte(&in) % (THREADS_MAX + 1);
	struct sf_note_secret secrets[SECRETS_MAX];
	char text[TEXT_MAX];
	uint8_t floating = take_byte(&in);
	uint8_t id[16];
	int fd = scratch_file();
	siginfo_t si;
	struct walk walk = {0};
	uint8_t *file;

	take(&in, &si, sizeof(si));
	take(&in, id, sizeof(id));
	take(&in, &crash, sizeof(crash));
	crash.si = &si;
	crash.uc = (struct ucontext *)take_context(&in, 0, floating & 1);
	notes.crash = &crash;
	notes.other_threads = take_byte(&in) & 1;
	notes.auxv_bytes = take_word(&in) % (SF_AUXV_BYTES + 1);
	take(&in, notes.auxv, sizeof(notes.auxv));
	crash.note.secrets %= SECRETS_MAX + 1;
	take(&in, secrets, sizeof(secrets));
	notes.secrets = secrets;
	crash.note.text_bytes %= TEXT_MAX + 1;
	take(&in, text, sizeof(text));
	notes.text = text;
	take_threads(&in, count, floating);
	sf_maps_reset();
	sf_maps_add((const char *)in.at, in.left);

	sf_note_fill(&crash, id);
	sf_output_open(&out, SF_OUTPUT_COUNT_ONLY);
	sf_notes_put(&notes, &out);
	walk.size = out.offset;
	sf_output_open(&out, fd);
	sf_notes_put(&notes, &out);
	sf_output_flush(&out);
	CHECK(out.error == 0 && out.offset == walk.size);
	file = malloc(walk.size + 1);
	CHECK(sf_sys4(__NR_pread64, fd, file, walk.size + 1, 0) ==
	      (long)walk.size);
	walk.bytes = file;
	check(&walk, &notes);
	free(file);
	return 0;
}
