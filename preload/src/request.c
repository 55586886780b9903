/* What each thread is working on.
 *
 * Three texts for each thread: one is current, one may be half written by the
 * call that a signal handler interrupted, one is left for the handler's own
 * call.  `writing` may stay behind when a handler leaves by longjmp; that costs
 * nothing, because of three texts one is always neither.
 */
#include "application.h"
#include "places.h"
#include "sys.h"
#include "text.h"

#define TEXTS 3

struct request {
	uint32_t current; /* 1 to TEXTS; 0: none */
	uint32_t writing; /* likewise */
	char text[TEXTS][STILLFRAME_KEY_BYTES];
};

/* Initial-exec, or the compiler would call libc's __tls_get_addr. */
static __thread struct request request
	__attribute__((tls_model("initial-exec")));

/* From a thread's TLS base to its `request`, once one was set.  A crash must
 * not use TLS itself: a thread made by clone() may have none. */
static uint64_t offset;

/* One thread, but its signal handlers see the order. */
static uint32_t load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void store(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

SF_API int stillframe_request_v1(const char *id)
{
	struct request *mine = &request;
	uint32_t outer = load(&mine->writing);
	uint32_t fresh = 1;
	int error = sf_application_ready();

	if (error)
		return error;
	if (!id) {
		store(&mine->current, 0);
		return STILLFRAME_OK;
	}
	do {
		while (fresh == load(&mine->current) || fresh == outer)
			fresh = fresh % TEXTS + 1;
		store(&mine->writing, fresh);
		/* A handler that came before that may have used it. */
	} while (fresh == load(&mine->current));
	error = sf_application_text(mine->text[fresh - 1],
				    sizeof(mine->text[0]), id);
	/* First this: a handler in between, whose caller goes on writing what
	 * `outer` names, must see that, not `fresh`. */
	store(&mine->writing, outer);
	if (!error) {
		store(&mine->current, fresh);
		__atomic_store_n(&offset,
				 (uint64_t)mine -
					 (uint64_t)__builtin_thread_pointer(),
				 __ATOMIC_RELEASE);
	}
	return error;
}

void sf_request_read(uint64_t tls_base, char ret[STILLFRAME_KEY_BYTES])
{
	uint64_t at = __atomic_load_n(&offset, __ATOMIC_ACQUIRE);
	struct request theirs;

	ret[0] = '\0';
	if (at == 0 || sf_peek(tls_base + at, &theirs, sizeof(theirs)) ||
	    theirs.current == 0 || theirs.current > TEXTS)
		return;
	sf_copy(ret, STILLFRAME_KEY_BYTES, theirs.text[theirs.current - 1]);
}
