/* The libc functions we stand in front of, and those we call ourselves.
 *
 * Every interposed function is one line here, one line in exports.map, and a
 * definition of the same name in the file of its subject.
 */
#ifndef SF_INTERPOSE_H
#define SF_INTERPOSE_H

#define SF_EXPORT __attribute__((visibility("default")))

typedef struct sf_pthread_attr sf_pthread_attr; /* opaque: libc's */
typedef unsigned long sf_pthread;
typedef void *sf_thread_start(void *argument);

/* X(name, result, arguments) */
#define SF_NEXT_FUNCTIONS(X)                                                   \
	X(pthread_create, int,                                                 \
	  (sf_pthread * ret, const sf_pthread_attr *attr,                      \
	   sf_thread_start *start, void *argument))                            \
	X(pthread_getattr_default_np, int, (sf_pthread_attr * ret))            \
	X(pthread_attr_init, int, (sf_pthread_attr * attr))                    \
	X(pthread_attr_destroy, int, (sf_pthread_attr * attr))                 \
	X(pthread_attr_getstack, int,                                          \
	  (const sf_pthread_attr *attr, void **stack_ret,                      \
	   unsigned long *size_ret))                                           \
	X(pthread_attr_getstacksize, int,                                      \
	  (const sf_pthread_attr *attr, unsigned long *ret))                   \
	X(pthread_attr_setstacksize, int,                                      \
	  (sf_pthread_attr * attr, unsigned long size))

#define SF_NEXT_MEMBER(name, result, arguments) result(*name) arguments;
struct sf_next_table {
	SF_NEXT_FUNCTIONS(SF_NEXT_MEMBER)
};
#undef SF_NEXT_MEMBER

/* libc's own definitions, looked up at the first call: an interposed function
 * may run before our constructor.  A member is NULL when libc lacks it. */
const struct sf_next_table *sf_next_functions(void);

SF_EXPORT int pthread_create(sf_pthread *ret, const sf_pthread_attr *attr,
			     sf_thread_start *start, void *argument);

#endif
