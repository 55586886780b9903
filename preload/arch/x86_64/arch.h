/* What differs between architectures, behind one interface. */
#ifndef SF_ARCH_H
#define SF_ARCH_H

#include <linux/signal.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>
#include <linux/audit.h>
#include <linux/elf-em.h>
#include <stdbool.h>
#include <stdint.h>

struct sf_output;

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

/* True just behind the instruction of a system call. */
bool sf_after_syscall(const struct ucontext *uc);
/* Ends the alignment checks that a thread may have switched on (EFLAGS.AC): the
 * kernel leaves them on in a handler, whose first unaligned access would fault.
 * Returning from the handler brings them back. */
void sf_allow_misaligned(void);

/* Signal return trampoline, with CFI for unwinders outside the process. */
void sf_restore(void);

/* How much of a struct ucontext names all registers but the vector state, which
 * stays in the signal frame. */
#define SF_UCONTEXT_BYTES sizeof(struct ucontext)

/* A signal frame, as the kernel builds it: where a handler starts. */
struct sf_frame {
	uint64_t sp;
	siginfo_t *si;
	struct ucontext *uc;
};

/* An upper bound of the bytes that sf_frame_copy() writes. */
uint64_t sf_frame_bytes(const struct ucontext *uc);

/* Copies the signal frame of (si, uc), vector state included, to below the
 * address `below`; no system call. */
void sf_frame_copy(struct sf_frame *ret, uint64_t below, const siginfo_t *si,
		   const struct ucontext *uc);

/* Enters `handler` on a copied frame; it returns to sf_handler_returned() and
 * then to what was interrupted. */
_Noreturn void sf_frame_enter(const struct sf_frame *frame,
			      void (*handler)(int, siginfo_t *, void *),
			      int sig);

/* What sf_frame_copy() makes handlers return to. */
void sf_after_handler(void);

/* Calls `function` on the stack that ends at `top` (16 byte aligned); unwinders
 * find the way back. */
void sf_call_on_stack(void *top, void (*function)(void));

/* True when returns are checked against a shadow stack: then a handler cannot
 * be entered on another frame than the kernel's. */
static inline bool sf_shadow_stack(void)
{
	uint64_t ssp = 0;

	__asm__ volatile("rdsspq %0" : "+r"(ssp)); /* else a nop */
	return ssp != 0;
}

#endif
