#include "debug.h"

#include "config.h"
#include "sys.h"
#include "text.h"

#define STDERR 2

static void number(char *line, size_t size, const char *label, uint64_t value)
{
	sf_append(line, size, label);
	sf_append_number(line, size, value);
}

void sf_debug_report(const struct sf_crash *crash, const char *file, int error)
{
	char line[256] = "stillframe:";
	const struct sf_note *n = &crash->note;

	if (!sf_config.debug)
		return;
	number(line, sizeof(line), " signal ", (uint64_t)crash->si->si_signo);
	number(line, sizeof(line), " in thread ", (uint64_t)crash->tid);
	if (error) {
		number(line, sizeof(line), ", no snapshot: errno ",
		       (uint64_t)-error);
	} else {
		sf_append(line, sizeof(line), ", wrote ");
		sf_append(line, sizeof(line), file);
		number(line, sizeof(line), " in us ",
		       (n->snapshot_monotonic_ns - n->crash_monotonic_ns) /
			       1000);
		number(line, sizeof(line), ", held for us ",
		       (n->release_monotonic_ns - n->snapshot_monotonic_ns) /
			       1000);
		number(line, sizeof(line), ", release ", n->release);
	}
	sf_append(line, sizeof(line), "\n");
	sf_sys3(__NR_write, STDERR, line, sf_strlen(line));
}
