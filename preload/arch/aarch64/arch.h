/* What differs between architectures, behind one interface. */
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

struct sf_output;

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

/* Nothing: a process cannot switch alignment checks on here. */
static inline void sf_allow_misaligned(void)
{
}

/* Calls `function` on the stack that ends at `top` (16 byte aligned); unwinders
 * find the way back. */
void sf_call_on_stack(void *top, void (*function)(void));

/* Signal return trampoline, with CFI for unwinders outside the process. */
void sf_restore(void);

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

/* Most bytes that sf_frame_copy writes below `below`. */
uint64_t sf_frame_bytes(const struct ucontext *uc);

/* Copies the kernel's signal frame to just below `below`, as rt_sigreturn
 * wants it. */
void sf_frame_copy(struct sf_frame *ret, uint64_t below, const siginfo_t *si,
		   const struct ucontext *uc);

/* Enters the handler on a moved frame; after it sf_handler_returned is called,
 * and then what was interrupted goes on. */
_Noreturn void sf_frame_enter(const struct sf_frame *frame,
			      void (*handler)(int, siginfo_t *, void *),
			      int sig);

/* Not of the architecture: what the library does after a handler. */
void sf_handler_returned(struct ucontext *uc);

/* True when returns are checked against a guarded control stack: then a handler
 * cannot be entered on another frame than the kernel's. */
static inline bool sf_shadow_stack(void)
{
	register uint64_t x16 __asm__("x16") = 1;

	__asm__("hint #40" : "+r"(x16)); /* chkfeat, else a nop */
	return x16 == 0;
}

#endif
