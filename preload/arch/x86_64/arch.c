#include "arch.h"

#include <asm/prctl.h>

#include "sys.h"

uint64_t sf_tls_base(void)
{
	uint64_t base = 0;

	sf_sys2(__NR_arch_prctl, ARCH_GET_FS, (long)&base);
	return base;
}

void sf_regs_from(struct sf_regs *ret, const struct ucontext *uc,
		  uint64_t tls_base)
{
	const struct sigcontext *sc = &uc->uc_mcontext;

	*ret = (struct sf_regs){
		.r15 = sc->r15,
		.r14 = sc->r14,
		.r13 = sc->r13,
		.r12 = sc->r12,
		.rbp = sc->rbp,
		.rbx = sc->rbx,
		.r11 = sc->r11,
		.r10 = sc->r10,
		.r9 = sc->r9,
		.r8 = sc->r8,
		.rax = sc->rax,
		.rcx = sc->rcx,
		.rdx = sc->rdx,
		.rsi = sc->rsi,
		.rdi = sc->rdi,
		.orig_rax = (uint64_t)-1, /* not inside a system call */
		.rip = sc->rip,
		.cs = sc->cs,
		.eflags = sc->eflags,
		.rsp = sc->rsp,
		.ss = sc->ss,
		.fs_base = tls_base,
	};
}

const struct sf_fpregs *sf_fpregs_from(const struct ucontext *uc)
{
	return (const struct sf_fpregs *)uc->uc_mcontext.fpstate;
}

/* None: the TLS base is among the registers. */
void sf_arch_notes_put(struct sf_output *out, uint64_t tls_base)
{
	(void)out;
	(void)tls_base;
}

static uint8_t code_byte(uint64_t address)
{
	uint8_t byte = 0;

	sf_peek(address, &byte, 1);
	return byte;
}

void sf_rewind(struct ucontext *uc, const siginfo_t *si)
{
	struct sigcontext *sc = &uc->uc_mcontext;

	if (si->si_signo == SIGTRAP) {
		uint8_t last = code_byte(sc->rip - 1);

		if (last == 0xcc || last == 0xf1) /* int3, icebp */
			sc->rip -= 1;
		else if (last == 0x03 && code_byte(sc->rip - 2) == 0xcd)
			sc->rip -= 2; /* int $3 */
	} else if (si->si_signo == SIGSYS) {
		sc->rip -= 2; /* the syscall instruction */
		sc->rax = (uint64_t)si->si_syscall;
	}
}
