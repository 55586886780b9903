/* A process with memory of every kind, which then dies of a null pointer.
 *
 *	memories [masked|vfork|leaderless|undumpable|huge|large MIB|file PATH]
 *
 * Texts that a core must not hold are made at run time, so that they are not in
 * the executable either.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <stillframe.h>

#define PAGE   4096UL
#define SPARSE (1UL << 30)

char *heap;	    /* a string in malloc's memory */
char *sparse;	    /* three of its pages are touched */
char *not_dumped;   /* MADV_DONTDUMP */
char *unreadable;   /* PROT_NONE, after it was written */
char *monitored;    /* two pages of a userfaultfd: one filled, one missing */
char *unfilled;	    /* shared, of a userfaultfd, missing */
char *foreign;	    /* a file's pages, none of them read */
char *huge;	    /* a page of hugetlb */
char *kernels;	    /* memfd_secret(2) */
char *shared;	    /* MAP_SHARED|MAP_ANONYMOUS */
char *secret;	    /* stillframe_secret_add() */
char *private_copy; /* a changed page of a private file mapping */
char *file_page;    /* an unchanged one, read */
volatile int masked;
static volatile uintptr_t zero; /* unknown to the optimizer */

static char *map(size_t size, int flags)
{
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);

	if (memory == MAP_FAILED)
		abort();
	return memory;
}

/* `what` with each letter shifted by one. */
static void write_hidden(char *to, const char *what)
{
	for (; *what != '\0'; what++)
		*to++ = (char)(*what + 1);
}

static void monitor(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	static char filling[PAGE] __attribute__((aligned(4096)));
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	monitored = map(2 * PAGE, MAP_PRIVATE);
	unfilled = map(2 * PAGE, MAP_SHARED);
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) != 0)
		abort();

	struct uffdio_register all = {
		.range = {(uintptr_t)monitored, 2 * PAGE},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_register none = all;
	none.range.start = (uintptr_t)unfilled;
	strcpy(filling, "filled by a monitor");
	struct uffdio_copy copy = {
		.dst = (uintptr_t)monitored,
		.src = (uintptr_t)filling,
		.len = PAGE,
	};
	if (ioctl(fd, UFFDIO_REGISTER, &all) != 0 ||
	    ioctl(fd, UFFDIO_REGISTER, &none) != 0 ||
	    ioctl(fd, UFFDIO_COPY, &copy) != 0)
		abort();
}

static void map_files(const char *program)
{
	int fd = open(program, O_RDONLY);

	private_copy = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE,
			    fd, 0);
	if (fd < 0 || private_copy == MAP_FAILED)
		abort();
	close(fd);
	strcpy(private_copy, "changed in a private mapping");
	file_page = private_copy + PAGE;
	zero += (uintptr_t) * (volatile char *)file_page & 0;
}

/* Memory that only this process sees; not every kernel has it. */
static void map_secret(void)
{
	int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);

	if (fd < 0)
		return;
	if (ftruncate(fd, PAGE) != 0)
		abort();
	kernels = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (kernels == MAP_FAILED)
		abort();
	write_hidden(kernels, "nmkxhmsghroqnbdrr");
}

static void map_foreign(const char *path)
{
	int fd = open(path, O_RDONLY);

	foreign = mmap(NULL, 8 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	if (fd < 0 || foreign == MAP_FAILED)
		abort();
}

static void *wait_masked(void *unused)
{
	sigset_t all;

	sigfillset(&all);
	/* Not pthread_sigmask(): our library keeps that from its signals. */
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
	masked = 1;
	for (;;)
		pause();
	return unused;
}

static void *wait_in_vfork(void *unused)
{
	masked = 1;
	if (vfork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			syscall(SYS_pause);
	}
	return unused;
}

static void start(void *(*run)(void *), void *argument)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, argument) != 0)
		abort();
	while (!masked)
		;
}

/* Memory that does not compress. */
static void fill(size_t mebibytes)
{
	size_t count = (mebibytes << 20) / sizeof(uint64_t);
	uint64_t *words = (uint64_t *)map(count * sizeof(*words), MAP_PRIVATE);
	uint64_t state = 88172645463325252ULL;

	for (size_t i = 0; i < count; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		words[i] = state;
	}
}

__attribute__((noinline)) static void crash(void)
{
	*(volatile int *)zero = 1;
}

static void *crash_without_leader(void *leader)
{
	pthread_join(*(pthread_t *)leader, NULL);
	crash();
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "undumpable") == 0) {
		prctl(PR_SET_DUMPABLE, 0);
		crash();
	}
	heap = strdup("on the heap");
	sparse = map(SPARSE, MAP_PRIVATE);
	strcpy(sparse, "first");
	strcpy(sparse + SPARSE / 2, "middle");
	strcpy(sparse + SPARSE - PAGE, "last");
	not_dumped = map(PAGE, MAP_PRIVATE);
	write_hidden(not_dumped, "mdudqctlodc");
	madvise(not_dumped, PAGE, MADV_DONTDUMP);
	unreadable = map(PAGE, MAP_PRIVATE);
	strcpy(unreadable, "behind PROT_NONE");
	mprotect(unreadable, PAGE, PROT_NONE);
	shared = map(PAGE, MAP_SHARED);
	strcpy(shared, "shared with children");
	secret = malloc(64);
	stillframe_secret_add(secret, 64);
	write_hidden(secret, "sgdrdbqdsjdx");
	monitor();
	map_files(argv[0]);
	map_secret();
	if (argc > 1 && strcmp(argv[1], "huge") == 0) {
		huge = map(2UL << 20, MAP_PRIVATE | MAP_HUGETLB);
		strcpy(huge, "on a huge page");
	}
	if (argc > 2 && strcmp(argv[1], "file") == 0)
		map_foreign(argv[2]);
	if (argc > 1 && strcmp(argv[1], "masked") == 0)
		start(wait_masked, NULL);
	if (argc > 1 && strcmp(argv[1], "vfork") == 0)
		start(wait_in_vfork, NULL);
	if (argc > 1 && strcmp(argv[1], "leaderless") == 0) {
		static pthread_t leader;

		leader = pthread_self();
		masked = 1;
		start(crash_without_leader, &leader);
		pthread_exit(NULL);
	}
	if (argc > 2 && strcmp(argv[1], "large") == 0)
		fill((size_t)atoi(argv[2]));
	crash();
	return 0;
}
