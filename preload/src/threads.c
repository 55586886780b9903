#include "threads.h"

#include "config.h"
#include "dispositions.h"
#include "sys.h"
#include "text.h"

/* Arbitrary: willing threads need about 1 ms in all, but a busy node may keep
 * one waiting for a processor for tens. */
#define STOP_BASE_NS	   (100 * SF_NSEC_MS)
#define STOP_PER_THREAD_NS 100000ULL
#define STOP_SLICE_NS	   (2 * SF_NSEC_MS)

/* A parked thread outlives the hold by this much if the process, against all
 * expectation, did not die; then it goes on rather than hang for ever. */
#define PARK_MARGIN_NS (10 * SF_NSEC)

struct sf_threads sf_threads;

/* Threads parked with a record; a futex word. */
static uint32_t parked;
/* Threads on their way into `parked`. */
static uint32_t arriving;
/* Parked threads the stopping thread waits for; 0 until it has counted. */
static uint32_t wanted;
/* Set when stopped threads may go on; a futex word. */
static uint32_t resumed;
static struct sigaction before; /* of the parking signal */

static struct sf_thread *find(int tid)
{
	uint32_t count = __atomic_load_n(&sf_threads.count, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < count; i++)
		if (sf_threads.entry[i].tid == tid)
			return &sf_threads.entry[i];
	return NULL;
}

static void record(struct sf_thread *thread, const struct ucontext *uc)
{
	thread->uc = uc;
	thread->tls_base = sf_tls_base();
	__atomic_store_n(&thread->parked, 1, __ATOMIC_RELEASE);
	__atomic_sub_fetch(&arriving, 1, __ATOMIC_RELEASE);
	if (__atomic_add_fetch(&parked, 1, __ATOMIC_ACQ_REL) >=
	    __atomic_load_n(&wanted, __ATOMIC_ACQUIRE))
		sf_futex_wake_all(&parked);
}

void sf_threads_park(const struct ucontext *uc)
{
	uint64_t end = sf_clock_ns(CLOCK_MONOTONIC) +
		       sf_config.hold_ms * SF_NSEC_MS + PARK_MARGIN_NS;
	int tid = sf_gettid();
	struct sf_thread *thread = NULL;

	__atomic_add_fetch(&arriving, 1, __ATOMIC_RELEASE);
	while (sf_clock_ns(CLOCK_MONOTONIC) < end &&
	       !__atomic_load_n(&resumed, __ATOMIC_ACQUIRE)) {
		uint64_t retry = sf_clock_ns(CLOCK_MONOTONIC) + SF_NSEC_MS;

		/* A thread that crashed too may be here before it is listed. */
		if (!thread && (thread = find(tid)))
			record(thread, uc);
		sf_futex_wait(&resumed, 0, thread ? end : retry);
	}
}

static void on_park_signal(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)si;
	sf_threads_park(uc);
}

/* Adds a thread to the table and asks it to park. */
static void stop_one(int pid, int tid)
{
	if (sf_threads.count < SF_THREADS_MAX) {
		struct sf_thread *thread = &sf_threads.entry[sf_threads.count];

		*thread = (struct sf_thread){.tid = tid};
		__atomic_store_n(&sf_threads.count, sf_threads.count + 1,
				 __ATOMIC_RELEASE);
	}
	sf_sys3(__NR_tgkill, pid, tid, SF_PARK_SIGNAL);
}

/* Signals the threads not yet in the table; returns how many those were. */
static uint32_t stop_listed(int dir, int pid, int self)
{
	static char buffer[4096] __attribute__((aligned(8)));
	uint32_t fresh = 0;
	uint32_t seen = 0;
	long got;

	sf_sys3(__NR_lseek, dir, 0, 0);
	while ((got = sf_sys3(__NR_getdents64, dir, buffer, sizeof(buffer))) >
	       0)
		for (long at = 0; at < got;) {
			struct sf_dirent *entry = (void *)(buffer + at);
			const char *name = entry->name;
			int tid = (int)sf_number(&name, 10);

			at += entry->bytes;
			if (tid == 0 || tid == self)
				continue;
			seen++;
			if (!find(tid)) {
				stop_one(pid, tid);
				fresh++;
			}
		}
	sf_threads.total = seen;
	return fresh;
}

/* False for a thread that is gone, a zombie, in a sleep that no signal ends, or
 * asleep with the signal pending behind its mask.  One that runs with it
 * pending may be on its way to us: in another signal's handler, or in ours
 * because it crashed too. */
static bool will_park(int tid)
{
	static char status[4096];
	char path[48] = "/proc/self/task/";

	sf_append_number(path, sizeof(path), (uint64_t)tid);
	sf_append(path, sizeof(path), "/status");
	if (sf_read_file(path, status, sizeof(status)) < 0)
		return false;

	const char *state = sf_field(status, "State:");
	const char *pending = sf_field(status, "SigPnd:");
	const char *blocked = sf_field(status, "SigBlk:");

	if (!state || !pending || !blocked)
		return false;
	if (*state == 'D' || *state == 'Z' || *state == 'X')
		return false;
	return *state != 'S' ||
	       !(sf_number(&pending, 16) & sf_number(&blocked, 16) &
		 (1ULL << (SF_PARK_SIGNAL - 1)));
}

static uint32_t count_willing(void)
{
	uint32_t willing = 0;

	for (uint32_t i = 0; i < sf_threads.count; i++) {
		struct sf_thread *thread = &sf_threads.entry[i];

		willing += __atomic_load_n(&thread->parked, __ATOMIC_ACQUIRE) ||
			   will_park(thread->tid);
	}
	return willing;
}

static void wait_for_parked(void)
{
	uint64_t now = sf_clock_ns(CLOCK_MONOTONIC);
	uint64_t end =
		now + STOP_BASE_NS + STOP_PER_THREAD_NS * sf_threads.count;

	__atomic_store_n(&wanted, sf_threads.count, __ATOMIC_RELEASE);
	for (;;) {
		uint32_t have = __atomic_load_n(&parked, __ATOMIC_ACQUIRE);

		if (have >= wanted || now >= end)
			return;
		sf_futex_wait(&parked, have, now + STOP_SLICE_NS);
		now = sf_clock_ns(CLOCK_MONOTONIC);
		if (__atomic_load_n(&parked, __ATOMIC_ACQUIRE) == have &&
		    __atomic_load_n(&arriving, __ATOMIC_ACQUIRE) == 0)
			__atomic_store_n(&wanted, count_willing(),
					 __ATOMIC_RELEASE);
	}
}

void sf_threads_stop(void)
{
	int dir =
		sf_open(AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY, 0);
	int pid = sf_getpid();
	int self = sf_gettid();

	sf_threads.total = 0;
	sf_threads.count = 0;
	parked = 0;
	wanted = ~0U;
	resumed = 0;
	if (dir < 0)
		return;
	sf_handle(SF_PARK_SIGNAL, on_park_signal, &before);
	/* Threads start threads until they are stopped: list until none is new.
	 * Past the table's end all are new each time: once must do. */
	while (stop_listed(dir, pid, self) > 0) {
		wait_for_parked();
		if (sf_threads.total > SF_THREADS_MAX)
			break;
	}
	sf_close(dir);
	sf_threads.captured = __atomic_load_n(&parked, __ATOMIC_ACQUIRE);
}

void sf_threads_resume(void)
{
	sf_restore_action(SF_PARK_SIGNAL, &before);
	__atomic_store_n(&resumed, 1, __ATOMIC_RELEASE);
	sf_futex_wake_all(&resumed);
}
