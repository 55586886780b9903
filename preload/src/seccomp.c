/* prctl() and syscall(), watched for the seccomp filters they install.
 *
 * Behind a filter that kills or traps our system calls, a crash would end by
 * the filter's signal: the library gives every signal back first.
 */
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <stddef.h>

#include "dispositions.h"
#include "filter.h"
#include "init.h"
#include "interpose.h"
#include "process.h"
#include "sys.h"

#define STEPS_IN_PAGE (SF_PAGE / sizeof(struct sock_filter))

/* Where the kernel will take or copy no program, false: it says so. */
static bool readable(const void *filter, struct sock_fprog *ret)
{
	struct sock_filter step;
	uint32_t at = 0;

	if (sf_peek((uint64_t)filter, ret, sizeof(*ret)) || ret->len == 0 ||
	    ret->len > BPF_MAXINSNS)
		return false;
	for (; at < ret->len; at += STEPS_IN_PAGE)
		if (sf_peek((uint64_t)&ret->filter[at], &step, sizeof(step)))
			return false;
	return sf_peek((uint64_t)&ret->filter[ret->len - 1], &step,
		       sizeof(step)) == 0;
}

/* Gives up when `filter` (a struct sock_fprog; NULL: strict mode) is deadly.
 * Before the call: behind it we could not.  If the kernel then refuses the
 * filter, crashes go unseen for nothing, which hurts nobody. */
static void prepare_for(const void *filter)
{
	struct sock_fprog program = {0, NULL};

	sf_init();
	if (filter && !readable(filter, &program))
		return; /* the kernel will say why */
	if ((!filter || sf_filter_is_deadly(&program)) && sf_process_is_ours())
		sf_dispositions_withdraw();
}

static void before_prctl(long option, long mode, long filter)
{
	if (option == PR_SET_SECCOMP && mode == SECCOMP_MODE_FILTER && filter)
		prepare_for((const void *)filter);
	else if (option == PR_SET_SECCOMP && mode == SECCOMP_MODE_STRICT)
		prepare_for(NULL);
}

static void before_seccomp(long operation, long filter)
{
	if (operation == SECCOMP_SET_MODE_FILTER && filter)
		prepare_for((const void *)filter);
	else if (operation == SECCOMP_SET_MODE_STRICT)
		prepare_for(NULL);
}

/* Both take as many arguments as the caller passed; the rest is whatever the
 * registers held, which the kernel ignores. */
SF_EXPORT int prctl(int option, long a, long b, long c, long d)
{
	next_prctl *next = SF_NEXT(prctl);

	before_prctl(option, a, b);
	return next ? next(option, a, b, c, d) : -1;
}

SF_EXPORT long syscall(long number, long a, long b, long c, long d, long e,
		       long f)
{
	next_syscall *next = SF_NEXT(syscall);

	if (number == __NR_prctl)
		before_prctl(a, b, c);
	else if (number == __NR_seccomp)
		before_seccomp(a, c);
	return next ? next(number, a, b, c, d, e, f) : -1;
}
