/* The types and constants of this architecture; machine.h has the interface. */
#ifndef SF_ARCH_H
#define SF_ARCH_H

#include <linux/signal.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>
#include <linux/audit.h>
#include <linux/elf-em.h>
#include <stdbool.h>
#include <stdint.h>

#define SF_ELF_MACHINE EM_X86_64
#define SF_AUDIT_ARCH  AUDIT_ARCH_X86_64

/* Bytes below sp that a leaf function may use without moving sp. */
#define SF_RED_ZONE 128

/* sizeof(pthread_attr_t), the same in glibc and musl. */
#define SF_PTHREAD_ATTR_BYTES 56

/* struct user_regs_struct: the order of pr_reg in NT_PRSTATUS. */
struct sf_regs {
	uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx,
		rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss, fs_base, gs_base,
		ds, es, fs, gs;
};

/* struct user_fpregs_struct: the legacy FXSAVE image, NT_FPREGSET. */
struct sf_fpregs {
	uint8_t fxsave[512];
};

static inline uint64_t sf_sp(const struct ucontext *uc)
{
	return uc->uc_mcontext.rsp;
}

static inline uint64_t sf_pc(const struct ucontext *uc)
{
	return uc->uc_mcontext.rip;
}

/* Bit n - 1 for signal n. */
static inline sigset_t sf_sigset(uint64_t bits)
{
	return bits;
}

/* A set's word: bit n - 1 for signal n. */
static inline uint64_t *sf_sigbits(const sigset_t *set)
{
	return (uint64_t *)(uintptr_t)set;
}

/* Ends the alignment checks that a thread may have switched on (EFLAGS.AC): the
 * kernel leaves them on in a handler, whose first unaligned access would fault.
 * Returning from the handler brings them back. */
void sf_allow_misaligned(void);

/* How much of a struct ucontext names all registers but the vector state, which
 * stays in the signal frame. */
#define SF_UCONTEXT_BYTES sizeof(struct ucontext)

/* A signal frame, as the kernel builds it: where a handler starts. */
struct sf_frame {
	uint64_t sp;
	siginfo_t *si;
	struct ucontext *uc;
};

/* What sf_frame_copy() makes handlers return to. */
void sf_after_handler(void);

/* True when returns are checked against a shadow stack: then a handler cannot
 * be entered on another frame than the kernel's. */
static inline bool sf_shadow_stack(void)
{
	uint64_t ssp = 0;

	__asm__ volatile("rdsspq %0" : "+r"(ssp)); /* else a nop */
	return ssp != 0;
}

#endif
