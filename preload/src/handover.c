#include "handover.h"

#include <linux/fs.h>

#include "config.h"
#include "sys.h"
#include "text.h"

/* Files in one directory; a crash loop without an agent stops here. */
#define FILES_MAX 64

#define POLL_FIRST_NS 200000ULL
#define POLL_MOST_NS  (5 * SF_NSEC_MS)

#define GRND_NONBLOCK 1

enum { BYTE_OWNER = 0, BYTE_CLAIM = 1, BYTE_DONE = 2 };

int sf_handover_open(struct sf_handover *ret)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
	int dir = sf_open(AT_FDCWD, sf_config.dir, flags, 0);

	if (dir == -ENOENT) {
		long made =
			sf_sys3(__NR_mkdirat, AT_FDCWD, sf_config.dir, 0777);

		/* Again even if that failed: another process may have won. */
		dir = sf_open(AT_FDCWD, sf_config.dir, flags, 0);
		/* Past the umask: an agent without DAC_OVERRIDE has to be able
		 * to remove files. */
		if (dir >= 0 && made == 0)
			sf_sys2(__NR_fchmod, dir, 0777);
	}
	if (dir < 0)
		return dir;
	ret->dir = dir;
	return 0;
}

static bool full(int dir)
{
	static char buffer[4096] __attribute__((aligned(8)));
	int files = 0;
	long got;

	while ((got = sf_sys3(__NR_getdents64, dir, buffer, sizeof(buffer))) >
	       0)
		for (long at = 0; at < got; files++)
			at += ((struct sf_dirent *)(buffer + at))->bytes;
	return files >= FILES_MAX + 2; /* "." and ".." */
}

/* Sets or asks for a record lock; `lock->l_type` holds the answer. */
static long lock(int fd, int command, struct flock *lock)
{
	return sf_sys3(__NR_fcntl, fd, command, lock);
}

static void name_file(struct sf_handover *h, const char *before,
		      const char *after, char *ret)
{
	char digits[2 * SF_ID_BYTES + 1];

	sf_hex(digits, h->id, SF_ID_BYTES);
	sf_copy(ret, sizeof(h->name), before);
	sf_append(ret, sizeof(h->name), digits);
	sf_append(ret, sizeof(h->name), after);
}

static int rename_to(struct sf_handover *h, const char *suffix)
{
	char name[sizeof(h->name)];
	long error;

	name_file(h, "", suffix, name);
	error = sf_sys5(__NR_renameat2, h->dir, h->name, h->dir, name,
			RENAME_NOREPLACE);
	if (error == 0)
		sf_copy(h->name, sizeof(h->name), name);
	return (int)error;
}

int sf_handover_create(struct sf_handover *h)
{
	struct flock owner = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	long error;

	if (full(h->dir))
		return -EMFILE;
	error = sf_sys3(__NR_getrandom, h->id, SF_ID_BYTES, GRND_NONBLOCK);
	if (error != SF_ID_BYTES)
		return error < 0 ? (int)error : -EAGAIN;
	name_file(h, ".", "", h->name);
	h->file = sf_open(h->dir, h->name,
			  O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (h->file < 0)
		return h->file;
	/* Lock first, rename then: whoever sees the .part finds its owner. */
	error = lock(h->file, F_SETLK, &owner);
	if (error == 0)
		error = rename_to(h, ".part");
	if (error)
		sf_handover_discard(h);
	return (int)error;
}

int sf_handover_publish(struct sf_handover *h)
{
	return rename_to(h, ".core");
}

void sf_handover_discard(struct sf_handover *h)
{
	sf_sys3(__NR_unlinkat, h->dir, h->name, 0);
	sf_close(h->file);
}

/* Does anybody hold a lock in [start, start + length); length 0: to the end.
 * Asked as a writer, which conflicts with the agent's read locks. */
static bool locked(int fd, int64_t start, int64_t length)
{
	struct flock query = {.l_type = F_WRLCK,
			      .l_whence = SEEK_SET,
			      .l_start = start,
			      .l_len = length};

	return lock(fd, F_GETLK, &query) == 0 && query.l_type != F_UNLCK;
}

enum sf_release sf_handover_hold(const struct sf_handover *h)
{
	uint64_t start = sf_clock_ns(CLOCK_MONOTONIC);
	uint64_t pause = POLL_FIRST_NS;
	bool claimed = false;
	bool agent = false;

	if (sf_config.hold_ms == 0)
		return SF_RELEASE_DISABLED;
	for (;;) {
		uint64_t held = sf_clock_ns(CLOCK_MONOTONIC) - start;

		if (locked(h->file, BYTE_DONE, 1))
			return SF_RELEASE_DONE;
		if (locked(h->file, BYTE_CLAIM, 1))
			claimed = true;
		else if (claimed)
			return SF_RELEASE_AGENT_DIED;
		else if (!locked(h->dir, 0, 0))
			return agent ? SF_RELEASE_AGENT_DIED
				     : SF_RELEASE_NO_AGENT;
		else if (held >= sf_config.claim_ms * SF_NSEC_MS)
			return SF_RELEASE_UNCLAIMED;
		if (held >= sf_config.hold_ms * SF_NSEC_MS)
			return SF_RELEASE_TIMEOUT;
		agent = true;
		sf_sleep_ns(pause);
		pause = pause * 2 < POLL_MOST_NS ? pause * 2 : POLL_MOST_NS;
	}
}
