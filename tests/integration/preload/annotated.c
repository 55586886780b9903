/* An application that uses stillframe.h: one argument for each thing to do.
 *
 *	annotated WAY [NUMBER|PLUGIN]
 *
 * C and C++.  Ways that print results of calls do so one to a line; nearly all
 * end with a crash.  With -DPLUGIN it is a shared library instead.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stillframe.h>

#ifdef PLUGIN
#ifdef __cplusplus
extern "C"
#endif
	int
	plugin_annotates(void);

int plugin_annotates(void)
{
	return stillframe_annotate("plugin", "loaded");
}

#else

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

static volatile uintptr_t zero; /* unknown to the optimizer */
static volatile int sink;
static const char *argument = "1";

static NOINLINE void crash(void)
{
	sink = *(volatile int *)zero;
}

static void say(int result)
{
	printf("%d\n", result);
	fflush(stdout);
}

static const char *repeat(char *to, char letter, int count)
{
	memset(to, letter, (size_t)count);
	to[count] = '\0';
	return to;
}

static void start(void *(*run)(void *), void *what)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, what) != 0)
		abort();
}

static void absent(void)
{
	say(stillframe_annotate("build", "1.2.3"));
	say(stillframe_request("r-1"));
	say(stillframe_secret_add(&zero, sizeof(zero)));
	say(stillframe_secret_remove(&zero, sizeof(zero)));
}

static void *other_request(void *barrier)
{
	stillframe_request("not mine");
	pthread_barrier_wait((pthread_barrier_t *)barrier);
	for (;;)
		pause();
	return NULL;
}

static void report(void)
{
	pthread_barrier_t barrier;

	pthread_barrier_init(&barrier, NULL, 2);
	start(other_request, &barrier);
	pthread_barrier_wait(&barrier);
	say(stillframe_annotate("build", "1.2.2"));
	say(stillframe_annotate("build", "1.2.3"));
	say(stillframe_annotate("shard", "7"));
	say(stillframe_annotate("gone", "soon"));
	say(stillframe_annotate("gone", NULL));
	say(stillframe_annotate("hostile", "a\x1b[31m\nSignal: none\xff"));
	say(stillframe_request("r-1"));
	say(stillframe_request("r-2"));
	crash();
}

static void no_request(void)
{
	stillframe_request("r-1");
	stillframe_request(NULL);
	crash();
}

static void limits(void)
{
	char key[STILLFRAME_KEY_BYTES + 1];
	char value[STILLFRAME_VALUE_BYTES + 1];
	char bytes[STILLFRAME_SECRETS + 1];
	char name[16];
	int i;

	errno = 77;
	for (i = 0; i < STILLFRAME_ANNOTATIONS; i++) {
		snprintf(name, sizeof(name), "k%d", i);
		if (stillframe_annotate(name, "old") != STILLFRAME_OK)
			abort();
	}
	say(stillframe_annotate("one more", "v"));
	say(stillframe_annotate("k5", "new"));
	say(stillframe_annotate("k6", NULL));
	say(stillframe_annotate("one more", "v"));
	say(stillframe_annotate("k7", NULL));
	say(stillframe_annotate(repeat(key, 'k', STILLFRAME_KEY_BYTES), "v"));
	say(stillframe_annotate(repeat(key, 'k', STILLFRAME_KEY_BYTES - 1),
				repeat(value, 'v', STILLFRAME_VALUE_BYTES)));
	say(stillframe_annotate(
		key, repeat(value, 'v', STILLFRAME_VALUE_BYTES - 1)));
	say(stillframe_annotate("", "v"));
	say(stillframe_annotate(NULL, "v"));
	say(stillframe_annotate("stillframe.request", "v"));
	say(stillframe_request(repeat(key, 'r', STILLFRAME_KEY_BYTES)));
	say(stillframe_request(repeat(key, 'r', STILLFRAME_KEY_BYTES - 1)));

	for (i = 0; i < STILLFRAME_SECRETS; i++)
		if (stillframe_secret_add(&bytes[i], 1) != STILLFRAME_OK)
			abort();
	say(stillframe_secret_add(bytes, sizeof(bytes)));
	say(stillframe_secret_remove(&bytes[1], 1));
	say(stillframe_secret_remove(&bytes[1], 1));
	say(stillframe_secret_add(bytes, sizeof(bytes)));
	say(stillframe_secret_add(bytes, 0));
	say(stillframe_secret_add(bytes, SIZE_MAX));
	say(errno == 77);
	crash();
}

/* Secrets: on the stack of the crashing thread, of another one, and one of
 * several pages.  What each holds is `byte(i)` for its i-th byte. */

static unsigned char byte(size_t i)
{
	return (unsigned char)((i * 167 + (i >> 8) * 59) | 0x80);
}

struct guarded {
	char before[16];
	volatile unsigned char secret[9001];
	char after[16];
};

static NOINLINE void keep(struct guarded *guarded, size_t size)
{
	volatile unsigned char *secret = guarded->secret;
	size_t i;

	memset(guarded->before, 'B', sizeof(guarded->before));
	memset((void *)(uintptr_t)&secret[size], 'A', 16);
	if (*argument == 'n') /* named */
		stillframe_secret_add(secret, size);
	for (i = 0; i < size; i++)
		secret[i] = byte(i);
	printf("%p %zu\n", (void *)(uintptr_t)secret, size);
	fflush(stdout);
}

static void *keep_small(void *barrier)
{
	struct guarded guarded;

	keep(&guarded, 101);
	pthread_barrier_wait((pthread_barrier_t *)barrier);
	for (;;)
		pause();
	return NULL;
}

static void secret(void)
{
	struct guarded small;
	struct guarded large;
	pthread_barrier_t barrier;

	pthread_barrier_init(&barrier, NULL, 2);
	start(keep_small, &barrier);
	pthread_barrier_wait(&barrier);
	keep(&small, 33);
	keep(&large, sizeof(large.secret));
	crash();
}

/* `argument` lies where the kernel put our command line. */
static void secret_argument(void)
{
	stillframe_secret_add(argument, strlen(argument));
	crash();
}

static void many_long(void)
{
	char value[STILLFRAME_VALUE_BYTES];
	char name[16];
	int i;

	stillframe_request("r-1");
	repeat(value, 'v', STILLFRAME_VALUE_BYTES - 1);
	for (i = 0; i < STILLFRAME_ANNOTATIONS; i++) {
		snprintf(name, sizeof(name), "k%d", i);
		stillframe_annotate(name, value);
	}
	crash();
}

/* Updates that a crash interrupts. */

static volatile int rounds;

static void *flip(void *block)
{
	char one[STILLFRAME_VALUE_BYTES];
	char two[STILLFRAME_VALUE_BYTES];

	repeat(one, 'a', STILLFRAME_VALUE_BYTES - 1);
	repeat(two, 'b', 200);
	if (block) {
		sigset_t all;

		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, NULL);
	}
	for (;;) {
		stillframe_annotate("flip", one);
		stillframe_annotate("flip", two);
		rounds++;
	}
	return NULL;
}

static void crash_beside(void *block)
{
	start(flip, block);
	while (rounds < atoi(argument))
		;
	crash();
}

static void torn(void)
{
	crash_beside(NULL);
}

static void torn_unstopped(void)
{
	crash_beside(&argument);
}

static void interrupt(int sig)
{
	char text[STILLFRAME_KEY_BYTES];

	(void)sig;
	if (++rounds >= atoi(argument))
		crash();
	stillframe_request(repeat(text, 'c', 50));
}

static void torn_request(void)
{
	char one[STILLFRAME_KEY_BYTES];
	char two[STILLFRAME_KEY_BYTES];
	struct itimerval often;

	memset(&often, 0, sizeof(often));
	often.it_interval.tv_usec = often.it_value.tv_usec = 50;
	signal(SIGALRM, interrupt);
	stillframe_request(repeat(one, 'a', STILLFRAME_KEY_BYTES - 1));
	setitimer(ITIMER_REAL, &often, NULL);
	for (;;) {
		stillframe_request(one);
		stillframe_request(repeat(two, 'b', 40));
	}
}

#define WRITERS 8

static void *write_many(void *number)
{
	int self = (int)(intptr_t)number;
	char own[16];
	char value[STILLFRAME_VALUE_BYTES];
	int i;

	snprintf(own, sizeof(own), "own%d", self);
	for (i = 0; i <= 2000; i++) {
		char key[16];
		int error;

		snprintf(key, sizeof(key), "shared%d", i % WRITERS);
		error = stillframe_annotate(
			key, repeat(value, (char)('a' + self), 20 * self + 1));
		snprintf(value, sizeof(value), "%d", i);
		if (error || (error = stillframe_annotate(own, value)))
			say(error);
	}
	return NULL;
}

static void writers(void)
{
	pthread_t threads[WRITERS];
	int i;

	for (i = 0; i < WRITERS; i++)
		pthread_create(&threads[i], NULL, write_many,
			       (void *)(intptr_t)i);
	for (i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	crash();
}

/* The child crashes in our memory; afterwards we may still write. */
static void vfork_child(void)
{
	pid_t child;

	stillframe_annotate("who", "child");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	child = vfork();
#pragma GCC diagnostic pop
	if (child == 0)
		crash();
	waitpid(child, NULL, 0);
	say(stillframe_annotate("who", "parent"));
	crash();
}

static void plugin(void)
{
	void *handle = dlopen(argument, RTLD_NOW | RTLD_LOCAL);
	void *symbol = handle ? dlsym(handle, "plugin_annotates") : NULL;
	int (*annotates)(void);

	if (!symbol)
		abort();
	memcpy(&annotates, &symbol, sizeof(symbol));
	say(annotates());
	crash();
}

static const struct {
	const char *name;
	void (*run)(void);
} ways[] = {
	{"absent", absent},
	{"report", report},
	{"no_request", no_request},
	{"limits", limits},
	{"secret", secret},
	{"secret_argument", secret_argument},
	{"many_long", many_long},
	{"torn", torn},
	{"torn_unstopped", torn_unstopped},
	{"torn_request", torn_request},
	{"writers", writers},
	{"vfork_child", vfork_child},
	{"plugin", plugin},
};

int main(int argc, char **argv)
{
	size_t i;

	if (argc > 2)
		argument = argv[2];
	for (i = 0; argc > 1 && i < sizeof(ways) / sizeof(*ways); i++)
		if (strcmp(argv[1], ways[i].name) == 0) {
			ways[i].run();
			return 0;
		}
	return 2;
}

#endif
