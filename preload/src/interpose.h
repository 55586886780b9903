/* The libc functions we stand in front of, and those we call ourselves.
 *
 * Every interposed function is one line here, one line in exports.map, and a
 * definition of the same name in the file of its subject.
 */
#ifndef SF_INTERPOSE_H
#define SF_INTERPOSE_H

#include <stdint.h>

#define SF_EXPORT __attribute__((visibility("default")))

typedef struct sf_pthread_attr sf_pthread_attr; /* opaque: libc's */
typedef unsigned long sf_pthread;
typedef void *sf_thread_start(void *argument);
typedef void sf_signal_function(int sig);

/* libc's sigset_t, the same 1024 bits in glibc and musl; the kernel reads and
 * writes the first word. */
struct sf_libc_sigset {
	uint64_t word[16];
};

/* libc's struct sigaction, the same in glibc and musl. */
struct sf_libc_sigaction {
	sf_signal_function *handler;
	struct sf_libc_sigset mask;
	int flags;
	void (*restorer)(void);
};

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
	  (sf_pthread_attr * attr, unsigned long size))                        \
	X(sigaction, int,                                                      \
	  (int sig, const struct sf_libc_sigaction *action,                    \
	   struct sf_libc_sigaction *old))                                     \
	X(signal, sf_signal_function *,                                        \
	  (int sig, sf_signal_function *handler))                              \
	X(bsd_signal, sf_signal_function *,                                    \
	  (int sig, sf_signal_function *handler))                              \
	X(sysv_signal, sf_signal_function *,                                   \
	  (int sig, sf_signal_function *handler))                              \
	X(__sysv_signal, sf_signal_function *,                                 \
	  (int sig, sf_signal_function *handler))                              \
	X(ssignal, sf_signal_function *,                                       \
	  (int sig, sf_signal_function *handler))                              \
	X(sigset, sf_signal_function *,                                        \
	  (int sig, sf_signal_function *disposition))                          \
	X(sigignore, int, (int sig))                                           \
	X(siginterrupt, int, (int sig, int interrupt))                         \
	X(sigprocmask, int,                                                    \
	  (int how, const struct sf_libc_sigset *set,                          \
	   struct sf_libc_sigset *old))                                        \
	X(pthread_sigmask, int,                                                \
	  (int how, const struct sf_libc_sigset *set,                          \
	   struct sf_libc_sigset *old))                                        \
	X(sigsetmask, int, (int signals))                                      \
	X(sigblock, int, (int signals))                                        \
	X(sigsuspend, int, (const struct sf_libc_sigset *set))                 \
	X(longjmp, void, (void *env, int value))                               \
	X(_longjmp, void, (void *env, int value))                              \
	X(siglongjmp, void, (void *env, int value))                            \
	X(__longjmp_chk, void, (void *env, int value))                         \
	X(exit, void, (int status))                                            \
	X(_exit, void, (int status))                                           \
	X(_Exit, void, (int status))                                           \
	X(quick_exit, void, (int status))                                      \
	X(execve, int,                                                         \
	  (const char *path, char *const argv[], char *const envp[]))          \
	X(execv, int, (const char *path, char *const argv[]))                  \
	X(execvp, int, (const char *file, char *const argv[]))                 \
	X(execvpe, int,                                                        \
	  (const char *file, char *const argv[], char *const envp[]))          \
	X(fexecve, int, (int fd, char *const argv[], char *const envp[]))      \
	X(execveat, int,                                                       \
	  (int dir, const char *path, char *const argv[], char *const envp[],  \
	   int flags))                                                         \
	X(posix_spawn, int,                                                    \
	  (int *pid, const char *path, const void *actions, const void *attr,  \
	   char *const argv[], char *const envp[]))                            \
	X(posix_spawnp, int,                                                   \
	  (int *pid, const char *file, const void *actions, const void *attr,  \
	   char *const argv[], char *const envp[]))                            \
	X(prctl, int, (int option, long a, long b, long c, long d))            \
	X(syscall, long,                                                       \
	  (long number, long a, long b, long c, long d, long e, long f))

/* Type and prototype of each; those that we do not define are never linked. */
#define SF_NEXT_TYPE(name, result, arguments)                                  \
	typedef result next_##name arguments;                                  \
	SF_EXPORT result name arguments;
SF_NEXT_FUNCTIONS(SF_NEXT_TYPE)
#undef SF_NEXT_TYPE

/* One cache entry for each function: 0 until looked up. */
struct sf_next_table {
#define SF_NEXT_MEMBER(name, result, arguments) uint64_t name;
	SF_NEXT_FUNCTIONS(SF_NEXT_MEMBER)
#undef SF_NEXT_MEMBER
};

extern struct sf_next_table sf_next_table;

/* The address behind `cache`, looked up at the first call (an interposed
 * function may run before our constructor); 0 when libc lacks it. */
uint64_t sf_next_address(uint64_t *cache, const char *name);

/* libc's own definition of an interposed or called function, or NULL. */
#define SF_NEXT(name)                                                          \
	((next_##name *)sf_next_address(&sf_next_table.name, #name))

#endif
