/* Bad places to crash in. */
#include "ways.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

NOINLINE void not_dumpable(void)
{
	prctl(PR_SET_DUMPABLE, 0);
	sink = *(volatile int *)zero;
}

static long memory_number(const char *name)
{
	char path[128];
	char line[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/sys/fs/cgroup/memory/memory.%s_in_bytes",
		 name);
	file = fopen(path, "r");
	if (!file || !fgets(line, sizeof(line), file))
		exit(100);
	fclose(file);
	return atol(line);
}

/* Uses the memory of its cgroup up to THREADS KiB below the limit. */
NOINLINE void hog(void)
{
	long until = memory_number("limit") - threads * 1024L;

	while (memory_number("usage") < until) {
		volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		page[0] = 1;
	}
	null_read();
}

static void limit(int resource, rlim_t soft, rlim_t hard)
{
	struct rlimit limit = {soft, hard};

	if (setrlimit(resource, &limit))
		exit(100);
}

NOINLINE void closed_descriptors(void)
{
	syscall(SYS_close_range, 0U, ~0U, 0U);
	null_read();
}

NOINLINE void all_descriptors_taken(void)
{
	limit(RLIMIT_NOFILE, 16, 16);
	while (dup(0) >= 0)
		;
	null_read();
}

NOINLINE void no_descriptors(void)
{
	limit(RLIMIT_NOFILE, 0, 0);
	null_read();
}

NOINLINE void no_file_size(void)
{
	limit(RLIMIT_FSIZE, 0, RLIM_INFINITY);
	null_read();
}

NOINLINE void no_file_size_ever(void)
{
	limit(RLIMIT_FSIZE, 0, 0);
	null_read();
}

NOINLINE void no_address_space(void)
{
	limit(RLIMIT_AS, 0, 0);
	null_read();
}

NOINLINE void no_signal_queue(void)
{
	limit(RLIMIT_SIGPENDING, 0, 0);
	null_read();
}

NOINLINE void no_new_privileges(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	null_read();
}

NOINLINE void dropped_privileges(void)
{
	if (setgid(65534) || setuid(65534))
		exit(100);
	null_read();
}

NOINLINE void user_namespace(void)
{
	if (unshare(CLONE_NEWUSER))
		exit(100);
	null_read();
}

/* Neither /proc nor the hand-over directory is there. */
NOINLINE void empty_root(void)
{
	if (chroot("."))
		exit(100);
	null_read();
}

static void own_mounts(void)
{
	if (unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		exit(100);
}

static const char *hand_over_directory(void)
{
	const char *directory = getenv("STILLFRAME_DIR");

	if (!directory)
		exit(100);
	return directory;
}

/* Over what the working directory and the hand-over directory are in. */
NOINLINE void read_only_root(void)
{
	own_mounts();
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL))
		exit(100);
	null_read();
}

NOINLINE void read_only_handover(void)
{
	own_mounts();
	if (mount("none", hand_over_directory(), "tmpfs", MS_RDONLY, NULL))
		exit(100);
	null_read();
}

NOINLINE void missing_handover(void)
{
	rmdir(hand_over_directory());
	null_read();
}

NOINLINE void replaced_handover(void)
{
	const char *directory = hand_over_directory();

	rmdir(directory);
	if (symlink("/", directory))
		exit(100);
	null_read();
}

NOINLINE void full_handover(void)
{
	own_mounts();
	if (mount("none", hand_over_directory(), "tmpfs", 0, "size=4k"))
		exit(100);
	null_read();
}
