/* Filling the vendor note. */
#include <asm/stat.h>

#include "config.h"
#include "notes.h"
#include "sys.h"
#include "text.h"

static uint64_t inode(const char *path)
{
	struct stat st;

	return sf_sys4(__NR_newfstatat, AT_FDCWD, path, &st, 0) ? 0 : st.st_ino;
}

/* The second field, a name in parentheses, may itself contain blanks and
 * parentheses. */
uint64_t sf_stat_number(const char *stat, int number)
{
	const char *at = stat;
	const char *after = stat;
	int field = 2;
	uint64_t value;

	for (; *at != '\0'; at++)
		if (*at == ')')
			after = at;
	for (; *after != '\0' && field < number; after++)
		field += *after == ' ';
	value = sf_number(&after, 10);
	return *after == ' ' ? value : 0; /* not cut short */
}

uint64_t sf_stat_field(int number)
{
	char stat[512];
	long got = sf_read_file("/proc/self/stat", stat, sizeof(stat));

	return got > 0 ? sf_stat_number(stat, number) : 0;
}

void sf_note_fill(struct sf_crash *crash, const uint8_t *id)
{
	struct sf_note *n = &crash->note;
	const siginfo_t *si = crash->si;

	n->size = sizeof(*n);
	n->format = SF_NOTE_FORMAT;
	n->library = SF_VERSION;
	memcpy(n->id, id, sizeof(n->id));
	n->pid = crash->pid;
	n->tid = crash->tid;
	n->uid = (uint32_t)sf_sys0(__NR_getuid);
	n->gid = (uint32_t)sf_sys0(__NR_getgid);
	n->start_ticks = sf_stat_field(22);
	n->pid_ns = inode("/proc/self/ns/pid");
	n->mnt_ns = inode("/proc/self/ns/mnt");
	n->user_ns = inode("/proc/self/ns/user");
	n->signal = si->si_signo;
	n->code = si->si_code;
	if (si->si_code <= 0) {
		n->sender_pid = si->si_pid;
		n->sender_uid = si->si_uid;
	} else {
		n->address = (uint64_t)si->si_addr;
	}
	if (crash->pid == 1)
		n->flags |= SF_FLAG_INIT_PROCESS;
}
