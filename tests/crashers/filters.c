/* Seccomp filters. */
#include "ways.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FORBID(number)                                                         \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1),                   \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

static void install_filter(struct sock_filter *filter, size_t instructions)
{
	struct sock_fprog program = {(unsigned short)instructions, filter};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

#define LOAD_CALL                                                              \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ALLOW	      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define INSTALL(list) install_filter(list, sizeof(list) / sizeof(*(list)))

NOINLINE void seccomp_trap(void)
{
	struct sock_filter filter[] = {
		LOAD_CALL,
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_acct, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		ALLOW,
	};

	INSTALL(filter);
	syscall(SYS_acct, NULL);
}

NOINLINE void forbidding_filter(void)
{
	struct sock_filter filter[] = {
		LOAD_CALL,
		FORBID(SYS_close_range),
		FORBID(SYS_process_vm_readv),
		FORBID(SYS_prctl),
		FORBID(SYS_tgkill),
		FORBID(SYS_rt_tgsigqueueinfo),
		ALLOW,
	};

	INSTALL(filter);
	null_read();
}

/* What containerd's default profile refuses a pod. */
static void forbid_like_a_runtime(void)
{
	struct sock_filter filter[] = {
		LOAD_CALL,
		FORBID(SYS_process_vm_readv),
		FORBID(SYS_process_vm_writev),
		FORBID(SYS_ptrace),
		ALLOW,
	};

	INSTALL(filter);
}

NOINLINE void filtered_int3(void)
{
	forbid_like_a_runtime();
	int3();
}

NOINLINE void filtered_abort(void)
{
	forbid_like_a_runtime();
	abort();
}
