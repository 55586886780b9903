/* pthread_create: every thread gets an alternate signal stack.
 *
 * It is the oldest part of the thread's own stack, which is made that much
 * larger: a local array of the function below the thread's start routine.
 * Nothing has to be freed, whichever way the thread ends.  A mapping of its
 * own leaked 64 KiB for each pthread_exit.
 */
#include <linux/errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "altstack.h"
#include "machine.h"
#include "config.h"
#include "init.h"
#include "interpose.h"
#include "masks.h"
#include "text.h"

/* Stacks an application supplies are not enlarged, only used when large. */
#define SUPPLIED_STACK_MIN (2UL * SF_ALTSTACK_BYTES)

/* Start routines on their way to their threads.  No allocation: when all are
 * taken, a thread starts without an alternate stack. */
#define LAUNCHES 256

struct launch {
	uint32_t taken;
	sf_thread_start *start;
	void *argument;
	struct sf_mask mask; /* the creator's, inherited */
};

static struct launch launches[LAUNCHES];

static struct launch *launch_take(sf_thread_start *start, void *argument)
{
	for (int i = 0; i < LAUNCHES; i++) {
		struct launch *launch = &launches[i];

		if (!__atomic_exchange_n(&launch->taken, 1, __ATOMIC_ACQUIRE)) {
			launch->start = start;
			launch->argument = argument;
			launch->mask = sf_mask();
			return launch;
		}
	}
	return NULL;
}

static void launch_free(struct launch *launch)
{
	__atomic_store_n(&launch->taken, 0, __ATOMIC_RELEASE);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wframe-larger-than="
static void *start_with_altstack(void *argument)
{
	char stack[SF_ALTSTACK_BYTES] __attribute__((aligned(16)));
	struct launch launch = *(struct launch *)argument;
	void *result;

	launch_free(argument);
	sf_inherit_mask(launch.mask);
	sf_altstack_use(stack);
	result = launch.start(launch.argument);
	/* Not a tail call: the array has to live as long as the thread. */
	__asm__ volatile("" : : "r"(stack) : "memory");
	return result;
}
#pragma GCC diagnostic pop

/* Of the attributes, what every libc has and no libc keeps anything behind:
 * glibc's type is larger than musl's where it has room to grow. */
#define ATTR_USED 56

union attr {
	char bytes[SF_PTHREAD_ATTR_BYTES];
	uint64_t align;
};

/* Makes room for the alternate stack in `attr`; false when it must not. */
static bool enlarge(sf_pthread_attr *attr)
{
	void *stack = NULL;
	unsigned long size = 0;

	/* Unset, glibc answers an address of NULL - size and musl an error. */
	if (SF_NEXT(pthread_attr_getstack)(attr, &stack, &size) == 0 &&
	    (uint64_t)stack + size != 0)
		return size >= SUPPLIED_STACK_MIN;
	return SF_NEXT(pthread_attr_getstacksize)(attr, &size) == 0 &&
	       SF_NEXT(pthread_attr_setstacksize)(
		       attr, size + SF_ALTSTACK_BYTES) == 0;
}

static int create_with_altstack(sf_pthread *ret, const sf_pthread_attr *attr,
				struct launch *launch)
{
	union attr copy;
	sf_pthread_attr *ours = (sf_pthread_attr *)&copy;
	int error = EAGAIN;

	/* A copy, because the application may share its attributes between
	 * threads; what they point to stays its own. */
	if (attr)
		memcpy(&copy, attr, ATTR_USED);
	else if ((SF_NEXT(pthread_getattr_default_np)
			  ? SF_NEXT(pthread_getattr_default_np)(ours)
			  : SF_NEXT(pthread_attr_init)(ours)) != 0)
		return error;
	if (enlarge(ours))
		error = SF_NEXT(pthread_create)(ret, ours, start_with_altstack,
						launch);
	if (!attr)
		SF_NEXT(pthread_attr_destroy)(ours);
	return error;
}

SF_EXPORT int pthread_create(sf_pthread *ret, const sf_pthread_attr *attr,
			     sf_thread_start *start, void *argument)
{
	next_pthread_create *next = SF_NEXT(pthread_create);
	struct launch *launch = NULL;
	int error = EAGAIN;

	sf_init();
	if (!next)
		return EAGAIN;
	if (!sf_config.disabled && SF_NEXT(pthread_attr_getstack))
		launch = launch_take(start, argument);
	if (launch) {
		error = create_with_altstack(ret, attr, launch);
		if (error)
			launch_free(launch);
	}
	/* Without our addition when it did not fit. */
	return error ? next(ret, attr, start, argument) : 0;
}
