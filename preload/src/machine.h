/* What every architecture provides: its types and constants in arch.h, and
 * these functions. */
#ifndef SF_MACHINE_H
#define SF_MACHINE_H

#include "arch.h"

struct sf_output;

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

/* Signal return trampoline, with CFI for unwinders outside the process. */
void sf_restore(void);

/* Calls `function` on the stack that ends at `top` (16 byte aligned); unwinders
 * find the way back. */
void sf_call_on_stack(void *top, void (*function)(void));

/* Most bytes that sf_frame_copy() writes below `below`. */
uint64_t sf_frame_bytes(const struct ucontext *uc);

/* Copies the signal frame of (si, uc), vector state included, to just below the
 * address `below`, as rt_sigreturn wants it; no system call. */
void sf_frame_copy(struct sf_frame *ret, uint64_t below, const siginfo_t *si,
		   const struct ucontext *uc);

/* Enters `handler` on a copied frame; after it sf_handler_returned() is called,
 * and then what was interrupted goes on. */
_Noreturn void sf_frame_enter(const struct sf_frame *frame,
			      void (*handler)(int, siginfo_t *, void *),
			      int sig);

#endif
