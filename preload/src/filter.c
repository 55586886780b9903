#include "filter.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stddef.h>

#include "machine.h"
#include "sys.h"

/* What we call between start-up and death. */
static const int calls[] = {
	__NR_clock_gettime,
	__NR_close,
	__NR_close_range,
	__NR_fchmod,
	__NR_fcntl,
	__NR_fstatfs,
	__NR_ftruncate,
	__NR_futex,
	__NR_getdents64,
	__NR_getpgid,
	__NR_getpid,
	__NR_getppid,
	__NR_getrandom,
	__NR_getsid,
	__NR_gettid,
	__NR_getuid,
	__NR_getgid,
	__NR_kill,
	__NR_lseek,
	__NR_mkdirat,
	__NR_nanosleep,
	__NR_newfstatat,
	__NR_openat,
	__NR_prctl,
	__NR_pread64,
	__NR_prlimit64,
	__NR_process_vm_readv,
	__NR_pwrite64,
	__NR_read,
	__NR_renameat2,
	__NR_rt_sigaction,
	__NR_rt_sigprocmask,
	__NR_rt_sigqueueinfo,
	__NR_rt_sigreturn,
	__NR_rt_tgsigqueueinfo,
	__NR_sigaltstack,
	__NR_tgkill,
	__NR_unlinkat,
};

/* Longer than any program the kernel takes (BPF_MAXINSNS), as jumps only go
 * forward. */
#define STEPS_MAX 4096

struct machine {
	uint32_t a, x;
	uint32_t memory[BPF_MEMWORDS];
};

/* One arithmetic step; false for an operation seccomp refuses, and for a
 * division by zero, at which the program answers 0: SECCOMP_RET_KILL_THREAD
 * (bpf_convert_filter() in net/core/filter.c). */
static bool compute(struct machine *m, uint16_t code, uint32_t k)
{
	uint32_t operand = BPF_SRC(code) == BPF_X ? m->x : k;

	switch (BPF_OP(code)) {
	case BPF_ADD:
		m->a += operand;
		return true;
	case BPF_SUB:
		m->a -= operand;
		return true;
	case BPF_MUL:
		m->a *= operand;
		return true;
	case BPF_DIV:
		if (operand == 0)
			return false;
		m->a /= operand;
		return true;
	case BPF_AND:
		m->a &= operand;
		return true;
	case BPF_OR:
		m->a |= operand;
		return true;
	case BPF_XOR:
		m->a ^= operand;
		return true;
	/* By five bits of the operand, see kernel/bpf/core.c. */
	case BPF_LSH:
		m->a <<= operand & 31;
		return true;
	case BPF_RSH:
		m->a >>= operand & 31;
		return true;
	case BPF_NEG:
		m->a = -m->a;
		return true;
	default:
		return false;
	}
}

static bool holds(const struct machine *m, uint16_t code, uint32_t k)
{
	uint32_t operand = BPF_SRC(code) == BPF_X ? m->x : k;

	switch (BPF_OP(code)) {
	case BPF_JEQ:
		return m->a == operand;
	case BPF_JGT:
		return m->a > operand;
	case BPF_JGE:
		return m->a >= operand;
	default: /* BPF_JSET */
		return (m->a & operand) != 0;
	}
}

/* The value a BPF_LD or BPF_LDX loads. */
static uint32_t load(const struct machine *m, const struct sock_filter *step,
		     const struct seccomp_data *data)
{
	switch (BPF_MODE(step->code)) {
	case BPF_IMM:
		return step->k;
	case BPF_MEM:
		return step->k < BPF_MEMWORDS ? m->memory[step->k] : 0;
	case BPF_LEN:
		return sizeof(*data);
	default: /* BPF_ABS: a word, as seccomp_check_filter() makes sure */
		return step->k + sizeof(uint32_t) <= sizeof(*data)
			       ? ((const uint32_t *)data)[step->k / 4]
			       : 0;
	}
}

/* What the program answers, see kernel/seccomp.c and net/core/filter.c. */
static uint32_t run(const struct sock_fprog *program,
		    const struct seccomp_data *data)
{
	struct machine m = {0};
	uint32_t at = 0;

	for (int steps = 0; steps < STEPS_MAX && at < program->len; steps++) {
		const struct sock_filter *step = &program->filter[at++];
		uint16_t code = step->code;

		switch (BPF_CLASS(code)) {
		case BPF_LD:
			m.a = load(&m, step, data);
			break;
		case BPF_LDX:
			m.x = load(&m, step, data);
			break;
		case BPF_ST:
		case BPF_STX:
			if (step->k < BPF_MEMWORDS)
				m.memory[step->k] =
					BPF_CLASS(code) == BPF_ST ? m.a : m.x;
			break;
		case BPF_ALU:
			if (!compute(&m, code, step->k))
				return SECCOMP_RET_KILL_PROCESS;
			break;
		case BPF_JMP:
			if (BPF_OP(code) == BPF_JA)
				at += step->k;
			else
				at += holds(&m, code, step->k) ? step->jt
							       : step->jf;
			break;
		case BPF_RET:
			return BPF_RVAL(code) == BPF_A ? m.a : step->k;
		default: /* BPF_MISC */
			if (BPF_MISCOP(code) == BPF_TAX)
				m.x = m.a;
			else
				m.a = m.x;
		}
	}
	return SECCOMP_RET_KILL_PROCESS;
}

static bool lets_return(uint32_t answer)
{
	switch (answer & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
	case SECCOMP_RET_LOG:
	case SECCOMP_RET_ERRNO:
	case SECCOMP_RET_TRACE:
		return true;
	default:
		return false;
	}
}

bool sf_filter_is_deadly(const struct sock_fprog *program)
{
	struct seccomp_data data = {.arch = SF_AUDIT_ARCH};

	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		data.nr = calls[i];
		if (!lets_return(run(program, &data)))
			return true;
	}
	return false;
}
