/* What differs between architectures, behind one interface. */
#ifndef SF_ARCH_H
#define SF_ARCH_H

#include <linux/signal.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>
#include <linux/elf-em.h>
#include <stdbool.h>
#include <stdint.h>

struct sf_output;

#define SF_ELF_MACHINE EM_X86_64

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

static inline uint64_t sf_sigbits(const sigset_t *set)
{
	return *set;
}

/* The calling thread's TLS base: what identifies it to its libc. */
uint64_t sf_tls_base(void);

/* The interrupted registers as a core file stores them. */
void sf_regs_from(struct sf_regs *ret, const struct ucontext *uc,
		  uint64_t tls_base);

/* NULL when the frame carries no floating point state; valid until the next
 * call. */
const struct sf_fpregs *sf_fpregs_from(const struct ucontext *uc);

/* The notes of a thread that this architecture alone has. */
void sf_arch_notes_put(struct sf_output *out, uint64_t tls_base);

/* Moves the context back so that returning to it raises `si` once more.
 * Needed by an init process for signals whose pc is already past the cause:
 * the kernel discards a queued SIG_DFL signal for init, but not a forced one.
 */
void sf_rewind(struct ucontext *uc, const siginfo_t *si);

/* Signal return trampoline, with CFI for unwinders outside the process. */
void sf_restore(void);

#endif
