#include "machine.h"

#include <linux/elf.h>

#include "chain.h"
#include "frame.h"
#include "notes.h"
#include "sys.h"
#include "text.h"

#define STACK_ALIGN 16UL

typedef struct _aarch64_ctx record;

/* The kernel's frame, as far as its size is fixed. */
struct rt_sigframe {
	siginfo_t info;
	struct ucontext uc;
};

_Static_assert(offsetof(struct rt_sigframe, uc) == FRAME_UC, "restore.S");
_Static_assert(offsetof(struct rt_sigframe, uc.uc_mcontext.regs) == FRAME_REGS,
	       "restore.S");
_Static_assert(offsetof(struct rt_sigframe, uc.uc_mcontext.sp) == FRAME_SP,
	       "restore.S");
_Static_assert(offsetof(struct rt_sigframe, uc.uc_mcontext.pc) == FRAME_PC,
	       "restore.S");
_Static_assert(offsetof(struct sf_frame, fp) == 8 &&
		       offsetof(struct sf_frame, si) == 16 &&
		       offsetof(struct sf_frame, uc) == 24,
	       "restore.S");

uint64_t sf_tls_base(void)
{
	uint64_t base;

	__asm__("mrs %0, tpidr_el0" : "=r"(base));
	return base;
}

/* The TLS base is no part of them here. */
void sf_regs_from(struct sf_regs *ret, const struct ucontext *uc,
		  uint64_t tls_base)
{
	const struct sigcontext *sc = &uc->uc_mcontext;

	(void)tls_base;
	memcpy(ret->x, sc->regs, sizeof(ret->x));
	ret->sp = sc->sp;
	ret->pc = sc->pc;
	ret->pstate = sc->pstate;
}

/* The frame has another order, so it is copied: into static memory, of the one
 * thread that writes the snapshot. */
const struct sf_fpregs *sf_fpregs_from(const struct ucontext *uc)
{
	static struct sf_fpregs fpregs;
	const struct fpsimd_context *fpsimd =
		(const void *)uc->uc_mcontext.__reserved;

	if (fpsimd->head.magic != FPSIMD_MAGIC)
		return NULL;
	memcpy(fpregs.v, fpsimd->vregs, sizeof(fpregs.v));
	fpregs.fpsr = fpsimd->fpsr;
	fpregs.fpcr = fpsimd->fpcr;
	return &fpregs;
}

/* The bits of a signed return address that hold the signature: those that
 * stripping clears.  XPACLRI, by its hint number: a nop where there is no
 * pointer authentication, so that the mask is 0. */
static uint64_t signature_mask(void)
{
	const uint64_t all = (1UL << 55) - 1; /* bit 55 selects the half */
	register uint64_t x30 __asm__("x30") = all;

	__asm__("hint #7" : "+r"(x30));
	return all ^ x30;
}

/* As the kernel writes them.  Without the mask no debugger gets past the first
 * function that signs its return address. */
void sf_arch_notes_put(struct sf_output *out, uint64_t tls_base)
{
	uint64_t mask = signature_mask();
	uint64_t masks[2] = {mask, mask}; /* of data, of instructions */

	sf_note_put(out, "LINUX", NT_ARM_TLS, &tls_base, sizeof(tls_base));
	if (mask)
		sf_note_put(out, "LINUX", NT_ARM_PAC_MASK, masks,
			    sizeof(masks));
}

bool sf_after_syscall(const struct ucontext *uc)
{
	uint32_t before = 0;

	sf_peek(sf_pc(uc) - 4, &before, sizeof(before));
	return before == 0xd4000001; /* svc #0 */
}

/* A brk leaves the pc at itself; a trapped system call leaves it behind the
 * svc, with x0 put back (arch/arm64: syscall_rollback). */
void sf_rewind(struct ucontext *uc, const siginfo_t *si)
{
	struct sigcontext *sc = &uc->uc_mcontext;

	if (si->si_signo == SIGSYS) {
		sc->pc -= 4;
		sc->regs[8] = (uint64_t)si->si_syscall;
	}
}

/* What did not fit into the frame's fixed part (SVE, SME); NULL when all did.
 */
static struct extra_context *extra_of(const struct ucontext *uc)
{
	const uint8_t *at = uc->uc_mcontext.__reserved;
	const uint8_t *end = at + sizeof(uc->uc_mcontext.__reserved);

	while (at + sizeof(struct extra_context) <= end) {
		const record *head = (const void *)at;

		if (head->magic == EXTRA_MAGIC)
			return (struct extra_context *)at;
		if (head->magic == 0 || head->size == 0)
			break;
		at += head->size;
	}
	return NULL;
}

static uint64_t ucontext_bytes(const struct ucontext *uc)
{
	const struct extra_context *extra = extra_of(uc);

	return extra ? extra->datap + extra->size - (uint64_t)uc : sizeof(*uc);
}

uint64_t sf_frame_bytes(const struct ucontext *uc)
{
	return 2 * STACK_ALIGN + 2 * sizeof(uint64_t) + FRAME_UC +
	       ucontext_bytes(uc);
}

/* What sf_frame_enter jumps to: a handler like any other, which returns to
 * sf_restore, so that unwinders have nothing more to know.  Its own return
 * address is not signed, for elfutils before 0.192 knows nothing of that. */
void sf_frame_handle(int sig, siginfo_t *si, void *uc,
		     void (*handler)(int, siginfo_t *, void *));

__attribute__((target("branch-protection=bti"))) void
sf_frame_handle(int sig, siginfo_t *si, void *uc,
		void (*handler)(int, siginfo_t *, void *))
{
	handler(sig, si, uc);
	sf_handler_returned(uc);
}

/* The kernel's order, from the top: frame record, extra data, ucontext,
 * siginfo.  The extra data follows the fixed part wherever it is, because
 * rt_sigreturn takes it from nowhere else. */
void sf_frame_copy(struct sf_frame *ret, uint64_t below, const siginfo_t *si,
		   const struct ucontext *uc)
{
	uint64_t bytes = ucontext_bytes(uc);
	uint64_t *frame_record =
		(void *)((below - 2 * sizeof(uint64_t)) & -STACK_ALIGN);
	struct rt_sigframe *frame =
		(void *)(((uint64_t)frame_record - FRAME_UC - bytes) &
			 -STACK_ALIGN);
	struct extra_context *extra;

	frame_record[0] = uc->uc_mcontext.regs[29];
	frame_record[1] = uc->uc_mcontext.regs[30];
	memcpy(&frame->info, si, sizeof(*si));
	memcpy(&frame->uc, uc, bytes);
	extra = extra_of(&frame->uc);
	if (extra)
		extra->datap += (uint64_t)&frame->uc - (uint64_t)uc;
	ret->sp = (uint64_t)frame;
	ret->fp = (uint64_t)frame_record;
	ret->si = &frame->info;
	ret->uc = &frame->uc;
}
