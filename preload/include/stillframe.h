/* Stillframe for applications: what a crash report should say, and what no
 * snapshot may contain.
 *
 *	#include "stillframe.h"
 *
 *	stillframe_annotate("build", "1.2.3");
 *	stillframe_request(request->id);
 *	stillframe_secret_add(key, sizeof(key));
 *
 * This file is all there is: nothing to link.  Every call asks whether the
 * preload library is in the process, and does nothing when it is not.  All of
 * them may be called from any thread and from signal handlers; none blocks,
 * allocates, makes a system call or changes errno.
 *
 * Every function returns 0 or one of these, negative errno values of Linux.
 */
#ifndef STILLFRAME_H
#define STILLFRAME_H

#include <stddef.h>

enum stillframe_result {
	STILLFRAME_OK = 0,
	STILLFRAME_ABSENT = -38,  /* no library here, or it is disabled */
	STILLFRAME_INVALID = -22, /* empty or reserved key, empty range */
	STILLFRAME_TOO_LONG =
		-7,	       /* see the limits below; nothing was changed */
	STILLFRAME_FULL = -28, /* all places are taken */
	STILLFRAME_BUSY = -11  /* too many threads at once, or a crash */
};

/* Limits of one process. */
enum stillframe_limit {
	STILLFRAME_KEY_BYTES = 64,    /* of a key or request id, with its NUL */
	STILLFRAME_VALUE_BYTES = 256, /* of a value, with its NUL */
	STILLFRAME_ANNOTATIONS = 64,
	STILLFRAME_SECRETS = 64
};

/* Binding.  A weak reference is not enough: in an executable that is not
 * position-independent, compilers ask for the address of a function itself,
 * which linkers settle as 0 for ever when no library they saw has it.  So the
 * address is taken from the global offset table, which the loader fills. */
#if defined(__ELF__) && defined(__x86_64__) && defined(__LP64__)
#define STILLFRAME_BIND(function, name)                                        \
	__asm__(".weak " name "\n\t"                                           \
		"mov{q " name "@GOTPCREL(%%rip), %0|"                          \
		" %0, QWORD PTR " name "@GOTPCREL[rip]}"                       \
		: "=r"(function))
#elif defined(__ELF__) && defined(__aarch64__) && defined(__LP64__)
#define STILLFRAME_BIND(function, name)                                        \
	__asm__(".weak " name "\n\t"                                           \
		"adrp %0, :got:" name "\n\t"                                   \
		"ldr %0, [%0, :got_lo12:" name "]"                             \
		: "=r"(function))
#else /* the library does not exist there */
#define STILLFRAME_BIND(function, name) ((function) = 0)
#endif

/* Sets the annotation `key`, again if it is set; a NULL value removes it.  Both
 * are copied.  Keys that begin with "stillframe." are reserved. */
static __inline__ int stillframe_annotate(const char *key, const char *value)
{
	int (*function)(const char *, const char *);

	STILLFRAME_BIND(function, "stillframe_annotate_v1");
	return function ? function(key, value) : (int)STILLFRAME_ABSENT;
}

/* Says what the calling thread works on, until the next call; NULL: nothing.
 * The report shows the crashing thread's.  The text is copied. */
static __inline__ int stillframe_request(const char *id)
{
	int (*function)(const char *);

	STILLFRAME_BIND(function, "stillframe_request_v1");
	return function ? function(id) : (int)STILLFRAME_ABSENT;
}

/* From now on every snapshot has zeros in place of these bytes.  Registers are
 * not memory: what was just loaded from there may be in one.  Call it before
 * the secret is written; a range added twice has to be removed twice. */
static __inline__ int stillframe_secret_add(const volatile void *address,
					    size_t size)
{
	int (*function)(const volatile void *, size_t);

	STILLFRAME_BIND(function, "stillframe_secret_add_v1");
	return function ? function(address, size) : (int)STILLFRAME_ABSENT;
}

/* Ends what stillframe_secret_add() with the same arguments began; call it
 * after the secret is erased, before the memory is used for something else. */
static __inline__ int stillframe_secret_remove(const volatile void *address,
					       size_t size)
{
	int (*function)(const volatile void *, size_t);

	STILLFRAME_BIND(function, "stillframe_secret_remove_v1");
	return function ? function(address, size) : (int)STILLFRAME_ABSENT;
}

#undef STILLFRAME_BIND

#endif
