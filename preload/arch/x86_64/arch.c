#include "machine.h"

#include <asm/prctl.h>

#include "sys.h"
#include "text.h"

#define FXSAVE_BYTES 512
#define SW_RESERVED  464 /* in the FXSAVE image: struct _fpx_sw_bytes */

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

void sf_allow_misaligned(void)
{
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t" /* the red zone */
			 "pushfq\n\t"
			 "andq $~0x40000, (%%rsp)\n\t"
			 "popfq\n\t"
			 "lea 128(%%rsp), %%rsp"
			 :
			 :
			 : "memory", "cc");
}

static uint8_t code_byte(uint64_t address)
{
	uint8_t byte = 0;

	sf_peek(address, &byte, 1);
	return byte;
}

bool sf_after_syscall(const struct ucontext *uc)
{
	uint64_t pc = sf_pc(uc);

	return code_byte(pc - 2) == 0x0f && code_byte(pc - 1) == 0x05;
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

/* The XSAVE area of a frame, its end marker included; 0 without one. */
static uint64_t vector_bytes(const struct ucontext *uc)
{
	const struct sf_fpregs *area = sf_fpregs_from(uc);
	const struct _fpx_sw_bytes *extended;

	if (!area)
		return 0;
	extended = (const void *)(area->fxsave + SW_RESERVED);
	return extended->magic1 == FP_XSTATE_MAGIC1 ? extended->extended_size
						    : FXSAVE_BYTES;
}

/* struct rt_sigframe: arch/x86/include/asm/sigframe.h */
struct rt_frame {
	uint64_t return_address;
	struct ucontext uc;
	siginfo_t si;
};

uint64_t sf_frame_bytes(const struct ucontext *uc)
{
	/* At most 63 and 15 bytes are lost to alignment. */
	return vector_bytes(uc) + 64 + sizeof(struct rt_frame) + 16;
}

void sf_frame_copy(struct sf_frame *ret, uint64_t below, const siginfo_t *si,
		   const struct ucontext *uc)
{
	uint64_t bytes = vector_bytes(uc);
	uint64_t vector = (below - bytes) & ~63UL;
	/* As after a call: 8 bytes off a multiple of 16. */
	uint64_t at = ((vector - sizeof(struct rt_frame)) & ~15UL) - 8;
	struct rt_frame *frame = (struct rt_frame *)at;

	frame->return_address = (uint64_t)sf_after_handler;
	frame->si = *si;
	frame->uc = *uc;
	if (bytes) {
		memcpy((void *)vector, sf_fpregs_from(uc), bytes);
		frame->uc.uc_mcontext.fpstate = (void *)vector;
	}
	*ret = (struct sf_frame){at, &frame->si, &frame->uc};
}
