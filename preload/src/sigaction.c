/* The functions that set a signal's action: libc's own, with the application's
 * action exposed while they run. */
#include "dispositions.h"

#include <stddef.h>

#include "chain.h"
#include "init.h"
#include "interpose.h"
#include "process.h"

/* True when the call is about an action that we keep, and keep for this
 * process. */
static bool ours_to_keep(int sig)
{
	sf_init();
	return sf_watched(sig) && sf_process_is_ours();
}

static sf_signal_function *handler_of(int sig)
{
	return (sf_signal_function *)(void *)sf_action(sig).sa_handler;
}

static void describe(int sig, struct sf_libc_sigaction *ret)
{
	struct sigaction theirs = sf_action(sig);

	*ret = (struct sf_libc_sigaction){
		.handler = handler_of(sig),
		.mask.word[0] = *sf_sigbits(&theirs.sa_mask),
		.flags = (int)theirs.sa_flags, /* SA_RESTORER, too */
		.restorer = theirs.sa_restorer,
	};
}

static bool is_our_handler(sf_signal_function *handler)
{
	return (void *)handler == (void *)sf_on_signal;
}

/* The action of a watched signal. */
static int set_watched(next_sigaction *next, int sig,
		       const struct sf_libc_sigaction *new,
		       struct sf_libc_sigaction *old)
{
	bool keep = new &&ours_to_keep(sig);
	int result;

	if (keep)
		sf_expose(sig);
	result = next(sig, new, old);
	if (keep)
		sf_adopt(sig);
	/* Asked without change, in a vfork child, or while another thread was
	 * setting it. */
	if (result == 0 && old && is_our_handler(old->handler))
		describe(sig, old);
	return result;
}

static bool is_function(sf_signal_function *handler)
{
	return (void *)handler != (void *)SIG_DFL &&
	       (void *)handler != (void *)SIG_IGN;
}

/* The action of any other signal: its handler often blocks all signals, and a
 * crash in it has to be seen. */
static int set_unwatched(next_sigaction *next, int sig,
			 const struct sf_libc_sigaction *new,
			 struct sf_libc_sigaction *old)
{
	struct sf_libc_sigaction open;
	uint64_t before = sf_opened(sig);
	uint64_t opened = before;
	int result;

	if (new)
		opened = is_function(new->handler)
				 ? new->mask.word[0] & sf_to_open()
				 : 0;
	if (new &&opened) {
		open = *new;
		open.mask.word[0] &= ~opened;
	}
	result = next(sig, new &&opened ? &open : new, old);
	/* Not when a library behind us (libjsig) answers for another action. */
	if (result == 0 && old && is_function(old->handler))
		old->mask.word[0] |= before;
	if (result == 0 && opened != before && sf_process_is_ours())
		sf_set_opened(sig, opened);
	return result;
}

SF_EXPORT int sigaction(int sig, const struct sf_libc_sigaction *new,
			struct sf_libc_sigaction *old)
{
	next_sigaction *next = SF_NEXT(sigaction);

	sf_init();
	if (!next)
		return -1;
	return sf_watched(sig) ? set_watched(next, sig, new, old)
			       : set_unwatched(next, sig, new, old);
}

#define RETURNS_HANDLER(name)                                                  \
	SF_EXPORT sf_signal_function *name(int sig,                            \
					   sf_signal_function *handler)        \
	{                                                                      \
		next_##name *next = SF_NEXT(name);                             \
		bool keep = ours_to_keep(sig);                                 \
		sf_signal_function *old;                                       \
                                                                               \
		if (!next)                                                     \
			return (sf_signal_function *)-1;                       \
		if (keep)                                                      \
			sf_expose(sig);                                        \
		old = next(sig, handler);                                      \
		if (keep)                                                      \
			sf_adopt(sig);                                         \
		return is_our_handler(old) ? handler_of(sig) : old;            \
	}

RETURNS_HANDLER(signal)
RETURNS_HANDLER(bsd_signal)
RETURNS_HANDLER(sysv_signal)
RETURNS_HANDLER(__sysv_signal)
RETURNS_HANDLER(ssignal)
RETURNS_HANDLER(sigset)

#define RETURNS_INT(name, arguments, call)                                     \
	SF_EXPORT int name arguments                                           \
	{                                                                      \
		next_##name *next = SF_NEXT(name);                             \
		bool keep = ours_to_keep(sig);                                 \
		int result;                                                    \
                                                                               \
		if (!next)                                                     \
			return -1;                                             \
		if (keep)                                                      \
			sf_expose(sig);                                        \
		result = next call;                                            \
		if (keep)                                                      \
			sf_adopt(sig);                                         \
		return result;                                                 \
	}

RETURNS_INT(sigignore, (int sig), (sig))
RETURNS_INT(siginterrupt, (int sig, int interrupt), (sig, interrupt))
