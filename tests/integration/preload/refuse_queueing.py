"""``refuse_queueing.py COMMAND...``: runs it where the kernel queues no signal for anybody.

qemu-user takes a queued SIGSEGV or SIGBUS with a fault's ``si_code`` for a fault of its own and
dies of an assertion. Refused, the library lets the instruction fault again, as under a seccomp
filter.
"""

import errno
import os
import sys

import pyseccomp

filter_ = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
filter_.add_rule(pyseccomp.ERRNO(errno.EPERM), "rt_tgsigqueueinfo")
filter_.load()
os.execvp(sys.argv[1], sys.argv[1:])
