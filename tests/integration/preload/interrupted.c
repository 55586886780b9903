/* The library's own tables, interrupted at every single instruction.
 *
 *	interrupted annotate|replace|remove|request|secret [STRIDE]
 *	interrupted reader STRIDE LAST
 *	interrupted race
 *
 * Single-steps one call (x86: the trap flag) and looks at each step whether a
 * crash there would show a value that somebody set.  With STRIDE, every
 * so-manieth step (up to LAST) calls the same function, as a signal handler
 *may. Prints the number of steps; exits 1 with one line when a crash would show
 * something else.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "application.h"
#include "config.h"
#include "init.h"
#include "places.h"

struct sf_config sf_config;

void sf_init(void)
{
}

static char old_text[STILLFRAME_KEY_BYTES];
static char new_text[STILLFRAME_KEY_BYTES];
static char nested_text[STILLFRAME_KEY_BYTES];

static const char *way;
static long steps;
static long nest_at;
static int nested_done;
static uint64_t tls_base;

static void fail(const char *what, const char *found)
{
	fprintf(stderr, "step %ld, nested at %ld: %s: %s\n", steps, nest_at,
		what, found);
	_exit(1);
}

/* What a report would show for the key "k", or the request. */
static const char *shown(const char *key)
{
	const char *text;
	size_t bytes = sf_annotations_text(&text, SF_TEXT_BYTES, tls_base);
	const char *found = "";

	for (const char *at = text; at < text + bytes;) {
		const char *value = at + strlen(at) + 1;

		if (strcmp(at, key) == 0) {
			if (*found != '\0')
				fail("shown twice", key);
			found = value;
		}
		at = value + strlen(value) + 1;
	}
	return found;
}

static void check_text(const char *key, int may_be_none)
{
	const char *found = shown(key);

	if (strcmp(found, old_text) != 0 && strcmp(found, new_text) != 0 &&
	    !(nested_done && strcmp(found, nested_text) == 0) &&
	    !(may_be_none && *found == '\0'))
		fail("not a value that was set", found);
}

static void check_secrets(void)
{
	const struct sf_note_secret *found;
	uint32_t count = sf_secrets_read(&found);
	int kept = 0;

	for (uint32_t i = 0; i < count; i++)
		if (found[i].address == (uint64_t)old_text &&
		    found[i].size == sizeof(old_text))
			kept = 1;
		else if (found[i].size != sizeof(new_text) ||
			 (found[i].address != (uint64_t)new_text &&
			  found[i].address != (uint64_t)nested_text))
			fail("not a range that was named", "");
	if (!kept)
		fail("a named range is missing", "");
}

/* A reader is stepped through too: another thread may go on meanwhile. */
static struct sf_note_secret read_range;

static int read_secrets(void)
{
	const struct sf_note_secret *found;

	read_range = sf_secrets_read(&found) ? *found
					     : (struct sf_note_secret){0, 0};
	return 0;
}

static void swap_secrets(void)
{
	stillframe_secret_remove_v1(old_text, sizeof(old_text));
	stillframe_secret_add_v1(nested_text, sizeof(nested_text) / 2);
}

static void check_range(void)
{
	int is_old = read_range.address == (uint64_t)old_text;

	if (read_range.size != 0 &&
	    read_range.size !=
		    (is_old ? sizeof(old_text) : sizeof(nested_text) / 2))
		fail("address of one range, size of another", "");
}

static void check(void)
{
	if (strcmp(way, "request") == 0)
		check_text(SF_NOTE_REQUEST_KEY, 0);
	else if (strcmp(way, "secret") == 0)
		check_secrets();
	else if (strcmp(way, "reader") == 0)
		check_range();
	else
		check_text("k", strcmp(way, "replace") != 0);
}

static void call(const char *text)
{
	int result;

	if (strcmp(way, "reader") == 0)
		result = read_secrets();
	else if (strcmp(way, "request") == 0)
		result = stillframe_request_v1(text);
	else if (strcmp(way, "secret") == 0)
		result = stillframe_secret_add_v1(text, sizeof(new_text));
	else if (strcmp(way, "remove") == 0 && text == new_text)
		result = stillframe_annotate_v1("k", NULL);
	else
		result = stillframe_annotate_v1("k", text);
	if (result)
		fail("refused", text);
}

static void on_step(int sig)
{
	(void)sig;
	steps++;
	if (steps == nest_at) {
		if (strcmp(way, "reader") == 0)
			swap_secrets();
		else
			call(nested_text);
		nested_done = 1;
	}
	check();
}

static void set_up(void)
{
	nested_done = 0;
	steps = 0;
	if (strcmp(way, "annotate") == 0) {
		stillframe_annotate_v1("k", NULL);
	} else if (strcmp(way, "secret") == 0 || strcmp(way, "reader") == 0) {
		while (!stillframe_secret_remove_v1(old_text,
						    sizeof(old_text)) ||
		       !stillframe_secret_remove_v1(new_text,
						    sizeof(new_text)) ||
		       !stillframe_secret_remove_v1(nested_text,
						    sizeof(nested_text)) ||
		       !stillframe_secret_remove_v1(nested_text,
						    sizeof(nested_text) / 2))
			;
		stillframe_secret_add_v1(old_text, sizeof(old_text));
	} else if (strcmp(way, "request") == 0) {
		stillframe_request_v1(old_text);
	} else {
		stillframe_annotate_v1("k", old_text);
	}
}

static long step_through(void)
{
	set_up();
	__asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::
				 : "memory", "cc");
	call(new_text);
	__asm__ volatile("pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq" ::
				 : "memory", "cc");
	check();
	return steps;
}

/* Writers that never stop, until a reader freezes them, as a crash does. */

#define FREEZES 500

static void *write_always(void *number)
{
	const char *texts[] = {old_text, new_text};
	long i = (long)number;

	for (;;)
		stillframe_annotate_v1("k", texts[i++ & 1]);
	return NULL;
}

static void race(void)
{
	pthread_t thread;

	way = "replace";
	stillframe_annotate_v1("k", old_text);
	for (long i = 0; i < 2; i++)
		pthread_create(&thread, NULL, write_always, (void *)i);
	for (steps = 0; steps < FREEZES; steps++) {
		sf_places_freeze(getpid());
		check();
		sf_places_freeze(0);
		sched_yield();
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_step};
	long all;
	long last;

	memset(old_text, 'a', sizeof(old_text) - 1);
	memset(new_text, 'b', 40);
	memset(nested_text, 'c', 50);
	tls_base = (uint64_t)__builtin_thread_pointer();
	sigaction(SIGTRAP, &action, NULL);
	way = argc > 1 ? argv[1] : "";
	if (strcmp(way, "race") == 0) {
		race();
		return 0;
	}
	all = step_through();
	last = argc > 3 ? atol(argv[3]) : all;
	printf("%ld\n", all);
	if (argc > 2)
		for (nest_at = 1; nest_at <= last; nest_at += atol(argv[2]))
			step_through();
	return 0;
}
