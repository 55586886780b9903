/* The types and constants of this architecture; machine.h has the interface. */
#ifndef SF_ARCH_H
#define SF_ARCH_H

#include <linux/signal.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>
#include <linux/audit.h>
#include <linux/elf-em.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SF_ELF_MACHINE EM_AARCH64
#define SF_AUDIT_ARCH  AUDIT_ARCH_AARCH64

/* Bytes below sp that a leaf function may use without moving sp: AAPCS64 has
 * no red zone. */
#define SF_RED_ZONE 0

/* sizeof(pthread_attr_t) of glibc; musl's is 56. */
#define SF_PTHREAD_ATTR_BYTES 64

/* struct user_pt_regs: the order of pr_reg in NT_PRSTATUS. */
struct sf_regs {
	uint64_t x[31], sp, pc, pstate;
};

/* struct user_fpsimd_state, NT_PRFPREG. */
struct sf_fpregs {
	__uint128_t v[32];
	uint32_t fpsr, fpcr, reserved[2];
};

static inline uint64_t sf_sp(const struct ucontext *uc)
{
	return uc->uc_mcontext.sp;
}

static inline uint64_t sf_pc(const struct ucontext *uc)
{
	return uc->uc_mcontext.pc;
}

/* Bit n - 1 for signal n. */
static inline sigset_t sf_sigset(uint64_t bits)
{
	return (sigset_t){{bits}};
}

/* A set's word: bit n - 1 for signal n. */
static inline uint64_t *sf_sigbits(const sigset_t *set)
{
	return (uint64_t *)(uintptr_t)set;
}

/* Nothing: a process cannot switch alignment checks on here. */
static inline void sf_allow_misaligned(void)
{
}

/* What a copy of a ucontext holds: the registers and the first record behind
 * them, which the kernel makes the one of the V registers
 * (arch/arm64/kernel/signal.c, setup_sigframe_layout). */
#define SF_UCONTEXT_BYTES                                                      \
	(offsetof(struct ucontext, uc_mcontext.__reserved) +                   \
	 sizeof(struct fpsimd_context))

/* A signal frame that was moved. */
struct sf_frame {
	uint64_t sp; /* of the handler at its entry: where the frame is */
	uint64_t fp; /* the frame record of the interrupted code */
	siginfo_t *si;
	struct ucontext *uc;
};

/* True when returns are checked against a guarded control stack: then a handler
 * cannot be entered on another frame than the kernel's. */
static inline bool sf_shadow_stack(void)
{
	register uint64_t x16 __asm__("x16") = 1;

	__asm__("hint #40" : "+r"(x16)); /* chkfeat, else a nop */
	return x16 == 0;
}

#endif
