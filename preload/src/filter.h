/* The application's own seccomp filters, judged before they take effect. */
#ifndef SF_FILTER_H
#define SF_FILTER_H

#include <linux/filter.h>
#include <stdbool.h>

/* True when the classic BPF program would not let one of our system calls
 * return: it kills, traps, or asks somebody else.  Judged with all arguments 0,
 * as a filter that depends on them has to guess about us, too.  Of a program
 * that the kernel will refuse it says either: nothing comes of it. */
bool sf_filter_is_deadly(const struct sock_fprog *program);

#endif
