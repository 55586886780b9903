/* Where handlers return to, with hand-written CFI.
 *
 * The kernel makes a handler return here with rsp at the struct ucontext.
 * A process held inside our handler is unwound from outside by gdb, eu-stack
 * and drgn; without CFI each of them stops at this frame (measured).  The
 * registers of the interrupted code are saved at fixed offsets from rsp, so
 * each rule is a DWARF expression, the scheme of glibc's __restore_rt.
 */
#include <asm/unistd.h>
#include <cet.h>

#define UC_GREGS 40 /* offsetof(struct ucontext, uc_mcontext) */

/* DW_CFA_expression: register `reg` is saved at rsp + offset; the offset is
 * a two byte SLEB128. */
.macro saved reg, offset
	.cfi_escape 0x10, \reg, 3, 0x77, ((\offset) & 0x7f) | 0x80, (\offset) >> 7
.endm

/* Begins a function that a handler returns to. */
.macro signal_frame
	.cfi_startproc simple
	.cfi_signal_frame
	/* DW_CFA_def_cfa_expression: *(rsp + offset of the saved rsp) */
	.cfi_escape 0x0f, 4, 0x77, ((UC_GREGS + 120) & 0x7f) | 0x80, (UC_GREGS + 120) >> 7, 0x06
	saved 8, UC_GREGS + 0   /* r8 */
	saved 9, UC_GREGS + 8   /* r9 */
	saved 10, UC_GREGS + 16 /* r10 */
	saved 11, UC_GREGS + 24 /* r11 */
	saved 12, UC_GREGS + 32 /* r12 */
	saved 13, UC_GREGS + 40 /* r13 */
	saved 14, UC_GREGS + 48 /* r14 */
	saved 15, UC_GREGS + 56 /* r15 */
	saved 5, UC_GREGS + 64  /* rdi */
	saved 4, UC_GREGS + 72  /* rsi */
	saved 6, UC_GREGS + 80  /* rbp */
	saved 3, UC_GREGS + 88  /* rbx */
	saved 1, UC_GREGS + 96  /* rdx */
	saved 0, UC_GREGS + 104 /* rax */
	saved 2, UC_GREGS + 112 /* rcx */
	saved 7, UC_GREGS + 120 /* rsp */
	saved 16, UC_GREGS + 128 /* rip */
	/* Unwinders look up pc - 1: the nop makes it fall inside this CFI. */
	nop
	.balign 16
.endm

	.text
	signal_frame
	.globl sf_restore
	.hidden sf_restore
	.type sf_restore, @function
sf_restore:
	movl $__NR_rt_sigreturn, %eax
	syscall
	.cfi_endproc
	.size sf_restore, . - sf_restore

	/* The same for a frame that sf_frame_copy() has made. */
	signal_frame
	.globl sf_after_handler
	.hidden sf_after_handler
	.type sf_after_handler, @function
sf_after_handler:
	movq %rsp, %rdi
	call sf_handler_returned
	movl $__NR_rt_sigreturn, %eax
	syscall
	.cfi_endproc
	.size sf_after_handler, . - sf_after_handler

	/* void sf_frame_enter(frame, handler, sig) */
	.cfi_startproc
	.globl sf_frame_enter
	.hidden sf_frame_enter
	.type sf_frame_enter, @function
sf_frame_enter:
	_CET_ENDBR
	movq %rdi, %rcx
	movq %rsi, %r11
	movl %edx, %edi
	movq 8(%rcx), %rsi
	movq 16(%rcx), %rdx
	movq (%rcx), %rsp
	xorl %eax, %eax
	jmp *%r11
	.cfi_endproc
	.size sf_frame_enter, . - sf_frame_enter

	/* void sf_call_on_stack(top, function); called a signal frame, because
	 * gdb stops at any other whose caller has a lower stack pointer. */
	.cfi_startproc
	.cfi_signal_frame
	.globl sf_call_on_stack
	.hidden sf_call_on_stack
	.type sf_call_on_stack, @function
sf_call_on_stack:
	_CET_ENDBR
	pushq %rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbp, 0
	movq %rsp, %rbp
	.cfi_def_cfa_register %rbp
	movq %rdi, %rsp
	call *%rsi
	movq %rbp, %rsp
	popq %rbp
	.cfi_def_cfa %rsp, 8
	ret
	.cfi_endproc
	.size sf_call_on_stack, . - sf_call_on_stack

	.section .note.GNU-stack, "", @progbits
