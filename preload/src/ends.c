/* The functions that end a process or make it another program.  In a handler
 * of a crash they are its end: it is reported first. */
#include <asm/unistd.h>
#include <stdarg.h>
#include <stddef.h>

#include "chain.h"
#include "interpose.h"
#include "masks.h"
#include "sys.h"

#define ENDS(name)                                                             \
	SF_EXPORT void name(int status)                                        \
	{                                                                      \
		next_##name *next = SF_NEXT(name);                             \
                                                                               \
		sf_report_inflight();                                          \
		if (next)                                                      \
			next(status);                                          \
		for (;;)                                                       \
			sf_sys1(__NR_exit_group, status);                      \
	}

ENDS(exit)
ENDS(_exit)
ENDS(_Exit)
ENDS(quick_exit)

/* The new program inherits the mask that the application has set. */
#define BECOMES(name, arguments, call)                                         \
	SF_EXPORT int name arguments                                           \
	{                                                                      \
		next_##name *next = SF_NEXT(name);                             \
		uint64_t exposed;                                              \
		int result;                                                    \
                                                                               \
		if (!next)                                                     \
			return -1;                                             \
		sf_report_inflight();                                          \
		exposed = sf_expose_mask();                                    \
		result = next call;                                            \
		sf_hide_mask(exposed);                                         \
		return result;                                                 \
	}

BECOMES(execve, (const char *path, char *const argv[], char *const envp[]),
	(path, argv, envp))
BECOMES(execv, (const char *path, char *const argv[]), (path, argv))
BECOMES(execvp, (const char *file, char *const argv[]), (file, argv))
BECOMES(execvpe, (const char *file, char *const argv[], char *const envp[]),
	(file, argv, envp))
BECOMES(fexecve, (int fd, char *const argv[], char *const envp[]),
	(fd, argv, envp))
BECOMES(execveat,
	(int dir, const char *path, char *const argv[], char *const envp[],
	 int flags),
	(dir, path, argv, envp, flags))

/* The arguments of execl and its kin as an array on the caller's stack; what
 * follows the terminating NULL is next in `list`. */
#define COLLECT(argv, first, list)                                             \
	do {                                                                   \
		long n = 1;                                                    \
                                                                               \
		va_start(list, first);                                         \
		while (va_arg(list, char *))                                   \
			n++;                                                   \
		va_end(list);                                                  \
		argv = __builtin_alloca((size_t)(n + 1) * sizeof(*argv));      \
		argv[0] = (char *)first;                                       \
		va_start(list, first);                                         \
		for (long i = 1; i <= n; i++)                                  \
			argv[i] = va_arg(list, char *);                        \
	} while (0)

SF_EXPORT int execl(const char *path, const char *first, ...);
SF_EXPORT int execl(const char *path, const char *first, ...)
{
	va_list list;
	char **argv;

	COLLECT(argv, first, list);
	va_end(list);
	return execv(path, argv);
}

SF_EXPORT int execlp(const char *file, const char *first, ...);
SF_EXPORT int execlp(const char *file, const char *first, ...)
{
	va_list list;
	char **argv;

	COLLECT(argv, first, list);
	va_end(list);
	return execvp(file, argv);
}

SF_EXPORT int execle(const char *path, const char *first, ...);
SF_EXPORT int execle(const char *path, const char *first, ...)
{
	va_list list;
	char **argv;
	char *const *envp;

	COLLECT(argv, first, list);
	envp = va_arg(list, char *const *);
	va_end(list);
	return execve(path, argv, envp);
}

/* The child inherits the mask, past every function of ours. */
#define SPAWNS(name)                                                           \
	SF_EXPORT int name(int *pid, const char *path, const void *actions,    \
			   const void *attr, char *const argv[],               \
			   char *const envp[])                                 \
	{                                                                      \
		next_##name *next = SF_NEXT(name);                             \
		uint64_t exposed;                                              \
		int error;                                                     \
                                                                               \
		if (!next)                                                     \
			return ENOSYS;                                         \
		exposed = sf_expose_mask();                                    \
		error = next(pid, path, actions, attr, argv, envp);            \
		sf_hide_mask(exposed);                                         \
		return error;                                                  \
	}

SPAWNS(posix_spawn)
SPAWNS(posix_spawnp)
