/* `refuse_queueing COMMAND...`: runs it where the kernel (x86_64) queues no
 * SIGSEGV and no SIGBUS for anybody.
 *
 * qemu-user takes a queued one of these with a fault's si_code for a fault of
 * its own and dies of an assertion.  Refused, the library lets the instruction
 * fault again, as under a seccomp filter. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field)                                                            \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(value, skip)                                                    \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (skip))

int main(int argc, char **argv)
{
	struct sock_filter filter[] = {
		LOAD(nr),
		UNLESS(SYS_rt_tgsigqueueinfo, 4),
		LOAD(args[2]), /* the signal, its low half */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SIGSEGV, 1, 0),
		UNLESS(SIGBUS, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(*filter), filter};

	if (argc < 2)
		return 2;
	/* Not by no_new_privs, which would change what is tried: as root. */
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
		execvp(argv[1], argv + 1);
	return 126;
}
