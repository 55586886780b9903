/* Other threads, and what they do meanwhile. */
#include "threads.h"
#include "ways.h"

#include <dirent.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void start(pthread_t *ret, const pthread_attr_t *attr, void *(*routine)(void *),
	   void *argument)
{
	int error = pthread_create(ret, attr, routine, argument);

	if (error) {
		fprintf(stderr, "crasher: pthread_create: %s\n",
			strerror(error));
		exit(100);
	}
}

#ifdef __GLIBC__
#define LIBRARY_TO_LOAD "libm.so.6"
#else
#define LIBRARY_TO_LOAD "libc.so"
#endif

static pthread_barrier_t barrier;
static atomic_int working; /* threads past the barrier */

static NOINLINE void wait_here(void)
{
	for (;;)
		pause();
}

static void *wait_in_thread(void *unused)
{
	(void)unused;
	pthread_barrier_wait(&barrier);
	working++;
	wait_here();
	return NULL;
}

static void *crash_in_thread(void *unused)
{
	(void)unused;
	pthread_barrier_wait(&barrier);
	null_read();
	return NULL;
}

/* Past libc, which keeps some signals for itself. */
static void block_all_signals(void)
{
	uint64_t all = ~0ULL;

	syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, sizeof(all));
}

static void *wait_masked(void *unused)
{
	(void)unused;
	block_all_signals();
	pthread_barrier_wait(&barrier);
	wait_here();
	return NULL;
}

static void *close_in_thread(void *unused)
{
	(void)unused;
	block_all_signals();
	pthread_barrier_wait(&barrier);
	for (;;)
		syscall(SYS_close_range, 3U, ~0U, 0U);
	return NULL;
}

static void *exit_in_thread(void *unused)
{
	struct timespec pause_ = {0, 50000000};

	(void)unused;
	pthread_barrier_wait(&barrier);
	nanosleep(&pause_, NULL);
	_exit(0);
}

static void *spin_in_thread(void *unused)
{
	(void)unused;
	pthread_barrier_wait(&barrier);
	working++;
	for (;;)
		sink++;
	return NULL;
}

/* Starts `threads` of them and returns when all are at work. */
static void start_all(void *(*routine)(void *))
{
	pthread_attr_t attr;

	pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
	pthread_attr_init(&attr);
	for (int i = 0; i < threads; i++) {
		pthread_t thread;

		start(&thread, &attr, routine, NULL);
	}
	pthread_barrier_wait(&barrier);
}

static void until_all_work(void)
{
	while (working < threads)
		sched_yield();
}

static void until_asleep(const char *tid)
{
	char path[64];
	char line[512] = "";

	snprintf(path, sizeof(path), "/proc/self/task/%s/stat", tid);
	while (!strstr(line, ") S")) {
		FILE *stat = fopen(path, "r");

		if (!stat || !fgets(line, sizeof(line), stat))
			exit(100);
		fclose(stat);
	}
}

/* All threads but this one are in a system call. */
static void until_all_sleep(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;

	until_all_work();
	while (tasks && (task = readdir(tasks)))
		if (task->d_name[0] != '.' && atoi(task->d_name) != getpid())
			until_asleep(task->d_name);
	closedir(tasks);
}

NOINLINE void thread_segv(void)
{
	threads = 1;
	start_all(crash_in_thread);
	wait_here();
}

NOINLINE void with_threads(void)
{
	start_all(wait_in_thread);
	until_all_sleep();
	null_read();
}

NOINLINE void with_spinning(void)
{
	start_all(spin_in_thread);
	until_all_work();
	null_read();
}

NOINLINE void with_masked(void)
{
	start_all(wait_masked);
	null_read();
}

NOINLINE void with_closing(void)
{
	threads = 1;
	start_all(close_in_thread);
	null_read();
}

NOINLINE void all_crash(void)
{
	start_all(crash_in_thread);
	wait_here();
}

NOINLINE void exit_during_hold(void)
{
	threads = 1;
	start_all(exit_in_thread);
	null_read();
}

static void *end_in_thread(void *unused)
{
	pthread_exit(unused);
}

static void start_and_join(int count)
{
	for (int i = 0; i < count; i++) {
		pthread_t thread;

		start(&thread, NULL, end_in_thread, NULL);
		pthread_join(thread, NULL);
	}
}

static long mapped_pages(void)
{
	FILE *statm = fopen("/proc/self/statm", "r");
	long pages;

	if (!statm || fscanf(statm, "%ld", &pages) != 1)
		exit(100);
	fclose(statm);
	return pages;
}

/* They leave nothing behind: not one page for two of them. */
NOINLINE void threads_that_end(void)
{
	long before;

	start_and_join(8); /* warm up: libc keeps stacks for the next thread */
	before = mapped_pages();
	start_and_join(threads);
	exit(mapped_pages() - before > threads / 2 ? 1 : 0);
}

static void clean_up(void *unused)
{
	(void)unused;
	null_read();
}

static void *wait_for_cancel(void *unused)
{
	pthread_cleanup_push(clean_up, unused);
	pthread_barrier_wait(&barrier);
	wait_here();
	pthread_cleanup_pop(0);
	return NULL;
}

NOINLINE void crash_in_cancel(void)
{
	pthread_t thread;

	pthread_barrier_init(&barrier, NULL, 2);
	start(&thread, NULL, wait_for_cancel, NULL);
	pthread_barrier_wait(&barrier);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
}

static void *load_in_thread(void *unused)
{
	(void)unused;
	pthread_barrier_wait(&barrier);
	for (;;) {
		void *library = dlopen(LIBRARY_TO_LOAD, RTLD_NOW);

		if (!library)
			exit(100);
		working = threads;
		dlclose(library);
	}
	return NULL;
}

/* The loader's lists change and its lock is held. */
NOINLINE void with_loading(void)
{
	start_all(load_in_thread);
	until_all_work();
	null_read();
}
