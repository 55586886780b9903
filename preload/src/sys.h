/* The kernel, as far as this library uses it: uapi types, raw calls.
 *
 * uapi headers only: a libc's headers would tie the library to that libc's
 * types (its sigaction and sigset_t are not the kernel's).
 */
#ifndef SF_SYS_H
#define SF_SYS_H

#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/time.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "syscall.h"

#define sf_sys0(nr)	  sf_syscall((nr), 0, 0, 0, 0, 0, 0)
#define sf_sys1(nr, a)	  sf_syscall((nr), (long)(a), 0, 0, 0, 0, 0)
#define sf_sys2(nr, a, b) sf_syscall((nr), (long)(a), (long)(b), 0, 0, 0, 0)
#define sf_sys3(nr, a, b, c)                                                   \
	sf_syscall((nr), (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define sf_sys4(nr, a, b, c, d)                                                \
	sf_syscall((nr), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define sf_sys5(nr, a, b, c, d, e)                                             \
	sf_syscall((nr), (long)(a), (long)(b), (long)(c), (long)(d),           \
		   (long)(e), 0)
#define sf_sys6(nr, a, b, c, d, e, f)                                          \
	sf_syscall((nr), (long)(a), (long)(b), (long)(c), (long)(d),           \
		   (long)(e), (long)(f))

/* One entry of getdents64. */
struct sf_dirent {
	uint64_t ino;
	int64_t offset;
	uint16_t bytes;
	uint8_t type;
	char name[];
};

#define SF_PAGE	   4096UL
#define SF_NSEC	   1000000000ULL
#define SF_NSEC_MS 1000000ULL

static inline int sf_getpid(void)
{
	return (int)sf_sys0(__NR_getpid);
}

static inline int sf_gettid(void)
{
	return (int)sf_sys0(__NR_gettid);
}

/* Nanoseconds of `clock` (CLOCK_MONOTONIC, CLOCK_REALTIME). */
uint64_t sf_clock_ns(int clock);

void sf_sleep_ns(uint64_t ns);

int sf_open(int dirfd, const char *path, int flags, int mode);

void sf_close(int fd);

/* Reads a small file whole; returns its bytes (< size, NUL-terminated) or
 * -errno. */
long sf_read_file(const char *path, char *ret, size_t size);

/* Copies `size` bytes of our own memory, or fails where a plain read would
 * fault: returns 0 or -errno. */
int sf_peek(uint64_t address, void *ret, size_t size);

/* True when the eight bytes at `address` can be written.  It writes them (the
 * signal mask), so they have to be free. */
bool sf_writable(uint64_t address);

/* Waits on *word == value until `deadline_ns` (CLOCK_MONOTONIC). */
void sf_futex_wait(const uint32_t *word, uint32_t value, uint64_t deadline_ns);

void sf_futex_wake_all(const uint32_t *word);

#endif
