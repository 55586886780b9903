#include "notes.h"

#include <linux/elf.h>

#include "maps.h"
#include "sys.h"
#include "text.h"
#include "threads.h"

#define ARG_START 48 /* field of /proc/self/stat, Linux 3.5 */

struct note_time {
	uint64_t sec, usec;
};

/* struct elf_prstatus of a 64 bit architecture, as the kernel writes it. */
struct prstatus {
	struct {
		int32_t si_signo, si_code, si_errno;
	} pr_info;
	int16_t pr_cursig;
	uint64_t pr_sigpend, pr_sighold;
	int32_t pr_pid, pr_ppid, pr_pgrp, pr_sid;
	struct note_time pr_utime, pr_stime, pr_cutime, pr_cstime;
	struct sf_regs pr_reg;
	int32_t pr_fpvalid;
};

_Static_assert(sizeof(struct prstatus) == 112 + sizeof(struct sf_regs) + 8,
	       "the kernel's struct elf_prstatus");

/* struct elf_prpsinfo of a 64 bit architecture. */
struct prpsinfo {
	char pr_state, pr_sname, pr_zomb, pr_nice;
	uint64_t pr_flag;
	uint32_t pr_uid, pr_gid;
	int32_t pr_pid, pr_ppid, pr_pgrp, pr_sid;
	char pr_fname[16];
	char pr_psargs[80];
};

_Static_assert(sizeof(struct prpsinfo) == 136, "the kernel's elf_prpsinfo");

static void put_header(struct sf_output *out, const char *owner, uint32_t type,
		       uint64_t bytes)
{
	Elf64_Nhdr header = {
		.n_namesz = (uint32_t)sf_strlen(owner) + 1,
		.n_descsz = (uint32_t)bytes,
		.n_type = type,
	};

	sf_output_put(out, &header, sizeof(header));
	sf_output_put(out, owner, header.n_namesz);
	sf_output_align(out, 4);
}

static void put_note(struct sf_output *out, uint32_t type, const void *desc,
		     uint64_t bytes)
{
	put_header(out, "CORE", type, bytes);
	sf_output_put(out, desc, bytes);
	sf_output_align(out, 4);
}

/* The signal is in every thread's: gdb believes the last. */
static void put_prstatus(struct sf_output *out, int tid, int sig,
			 const struct ucontext *uc, uint64_t tls_base)
{
	struct prstatus status = {
		.pr_info.si_signo = sig,
		.pr_cursig = (int16_t)sig,
		.pr_sighold = uc->uc_sigmask,
		.pr_pid = tid,
		.pr_ppid = (int)sf_sys0(__NR_getppid),
		.pr_pgrp = (int)sf_sys1(__NR_getpgid, 0),
		.pr_sid = (int)sf_sys1(__NR_getsid, 0),
		.pr_fpvalid = sf_fpregs_from(uc) != NULL,
	};

	sf_regs_from(&status.pr_reg, uc, tls_base);
	put_note(out, NT_PRSTATUS, &status, sizeof(status));
}

static void put_fpregs(struct sf_output *out, const struct ucontext *uc)
{
	const struct sf_fpregs *fpregs = sf_fpregs_from(uc);

	if (fpregs)
		put_note(out, NT_PRFPREG, fpregs, sizeof(*fpregs));
}

struct sf_range sf_notes_next_secret(const struct sf_notes *notes,
				     uint64_t address)
{
	struct sf_range next = {UINT64_MAX, UINT64_MAX};

	for (uint32_t i = 0; i < notes->crash->note.secrets; i++) {
		uint64_t start = notes->secrets[i].address;
		uint64_t end = start + notes->secrets[i].size;

		if (end <= address || start >= next.start)
			continue;
		next.start = start > address ? start : address;
		next.end = end;
	}
	return next;
}

/* The command line is memory of the process, and may be secret: all of it when
 * nobody tells where it lies. */
static void hide_secrets(const struct sf_notes *notes, char *text, long bytes)
{
	uint64_t start;

	if (notes->crash->note.secrets == 0)
		return;
	start = sf_stat_field(ARG_START);
	for (long i = 0; i < bytes; i++) {
		uint64_t at = start + (uint64_t)i;

		if (!start || sf_notes_next_secret(notes, at).start == at)
			text[i] = '\0';
	}
}

static void put_prpsinfo(const struct sf_notes *notes, struct sf_output *out)
{
	int pid = notes->crash->pid;
	struct prpsinfo info = {
		.pr_sname = 'R',
		.pr_uid = (uint32_t)sf_sys0(__NR_getuid),
		.pr_gid = (uint32_t)sf_sys0(__NR_getgid),
		.pr_pid = pid,
		.pr_ppid = (int)sf_sys0(__NR_getppid),
		.pr_pgrp = (int)sf_sys1(__NR_getpgid, 0),
		.pr_sid = (int)sf_sys1(__NR_getsid, 0),
	};
	long bytes = sf_read_file("/proc/self/cmdline", info.pr_psargs,
				  sizeof(info.pr_psargs));

	hide_secrets(notes, info.pr_psargs, bytes);
	for (long i = 0; i + 1 < bytes; i++)
		if (info.pr_psargs[i] == '\0')
			info.pr_psargs[i] = ' ';
	bytes = sf_read_file("/proc/self/comm", info.pr_fname,
			     sizeof(info.pr_fname));
	if (bytes > 0 && info.pr_fname[bytes - 1] == '\n')
		info.pr_fname[bytes - 1] = '\0';
	put_note(out, NT_PRPSINFO, &info, sizeof(info));
}

/* count, page size, {start, end, offset in pages}..., names. */
static void put_files(struct sf_output *out)
{
	uint64_t head[2] = {0, SF_PAGE};
	uint64_t bytes = sizeof(head);

	for (uint32_t i = 0; i < sf_maps.count; i++) {
		const struct sf_map *map = &sf_maps.entry[i];

		if (sf_map_is_file(map)) {
			head[0]++;
			bytes += 3 * sizeof(uint64_t) +
				 sf_strlen(sf_map_name(map)) + 1;
		}
	}
	put_header(out, "CORE", NT_FILE, bytes);
	sf_output_put(out, head, sizeof(head));
	for (uint32_t i = 0; i < sf_maps.count; i++) {
		const struct sf_map *map = &sf_maps.entry[i];
		uint64_t file[3] = {map->start, map->end,
				    map->offset / SF_PAGE};

		if (sf_map_is_file(map))
			sf_output_put(out, file, sizeof(file));
	}
	for (uint32_t i = 0; i < sf_maps.count; i++) {
		const struct sf_map *map = &sf_maps.entry[i];

		if (sf_map_is_file(map))
			sf_output_put(out, sf_map_name(map),
				      sf_strlen(sf_map_name(map)) + 1);
	}
	sf_output_align(out, 4);
}

static void put_crash_note(struct sf_notes *notes, struct sf_output *out)
{
	const struct sf_note *note = &notes->crash->note;
	uint64_t secret_bytes = note->secrets * sizeof(*notes->secrets);

	put_header(out, SF_NOTE_OWNER, SF_NOTE_CRASH,
		   sizeof(*note) + secret_bytes + note->text_bytes);
	notes->crash_note = out->offset;
	sf_output_put(out, note, sizeof(*note));
	sf_output_put(out, notes->secrets, secret_bytes);
	sf_output_put(out, notes->text, note->text_bytes);
	sf_output_align(out, 4);
}

/* The kernel's order: readers take the first thread for the crashed one, and
 * the notes after an NT_PRSTATUS for that thread's. */
void sf_notes_put(struct sf_notes *notes, struct sf_output *out)
{
	const struct sf_crash *crash = notes->crash;
	int sig = crash->si->si_signo;

	put_prstatus(out, crash->tid, sig, crash->uc, crash->tls_base);
	put_prpsinfo(notes, out);
	put_note(out, NT_SIGINFO, crash->si, sizeof(siginfo_t));
	put_note(out, NT_AUXV, notes->auxv, notes->auxv_bytes);
	put_files(out);
	put_fpregs(out, crash->uc);
	for (uint32_t i = 0; notes->other_threads && i < sf_threads.count;
	     i++) {
		const struct sf_thread *t = &sf_threads.entry[i];

		if (!__atomic_load_n(&t->parked, __ATOMIC_ACQUIRE))
			continue;
		put_prstatus(out, t->tid, sig, t->uc, t->tls_base);
		put_fpregs(out, t->uc);
	}
	put_crash_note(notes, out);
}
