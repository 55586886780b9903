/* The signal return trampoline, and how a handler is entered on a moved frame.
 *
 * A handler returns with sp at the kernel's signal frame: siginfo, ucontext.
 * libgcc and gdb know the trampoline by its exact two instructions.  eu-stack
 * and drgn need CFI, here in .debug_frame: in .eh_frame libgcc would use it,
 * and abort the process for the return address column that both of them know.
 */
#include <asm/unistd.h>

#include "frame.h"
#include "property.inc"

#define DWARF_SP 31
#define DWARF_PC 32 /* AADWARF64, DWARF register names */

/* sp + offset, as a DWARF expression of three bytes: DW_OP_breg31 and a two
 * byte SLEB128. */
.macro at offset
	.byte 0x8f, ((\offset) & 0x7f) | 0x80, (\offset) >> 7
.endm

/* DW_CFA_expression: where register `reg` is saved. */
.macro saved reg, offset
	.byte 0x10, \reg, 3
	at \offset
.endm

	.section .debug_frame, "", %progbits
cie:	.long cie_end - cie_start
cie_start:
	.long 0xffffffff
	.byte 4
	.asciz "S" /* a signal frame */
	.byte 8, 0 /* bytes of an address, and of a segment selector */
	.uleb128 4
	.sleb128 -8
	.uleb128 DWARF_PC
	.byte 0x0f, 4 /* DW_CFA_def_cfa_expression: the saved sp */
	at FRAME_SP
	.byte 0x06 /* DW_OP_deref */
	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
	saved \n, FRAME_REGS + 8 * \n
	.endr
	saved DWARF_SP, FRAME_SP
	saved DWARF_PC, FRAME_PC
	.balign 8, 0
cie_end:
	.long fde_end - fde_start
fde_start:
	.long cie
	.quad before_restore
	.quad restore_end - before_restore
	.balign 8, 0
fde_end:

	.text
	/* Unwinders look up pc - 1: the nop makes it fall inside this CFI. */
before_restore:
	nop
	.globl sf_restore
	.hidden sf_restore
	.type sf_restore, %function
sf_restore:
	mov x8, #__NR_rt_sigreturn
	svc #0
restore_end:
	.size sf_restore, . - sf_restore

/* sf_frame_enter(frame, handler, sig) */
	.section .text.sf_frame_enter, "ax", %progbits
	.globl sf_frame_enter
	.hidden sf_frame_enter
	.type sf_frame_enter, %function
sf_frame_enter:
	.cfi_startproc
	BTI_C
	mov x3, x1
	ldp x9, x29, [x0]
	.cfi_undefined x29
	.cfi_undefined x30
	ldp x1, x10, [x0, #16]
	mov w0, w2
	mov x2, x10
	mov sp, x9
	adrp x30, sf_restore
	add x30, x30, #:lo12:sf_restore
	b sf_frame_handle
	.cfi_endproc
	.size sf_frame_enter, . - sf_frame_enter

/* sf_call_on_stack(top, function): a signal frame to unwinders, because gdb
 * stops at any other whose caller has a lower stack pointer. */
	.section .text.sf_call_on_stack, "ax", %progbits
	.globl sf_call_on_stack
	.hidden sf_call_on_stack
	.type sf_call_on_stack, %function
sf_call_on_stack:
	.cfi_startproc
	.cfi_signal_frame
	BTI_C
	stp x29, x30, [sp, #-16]!
	.cfi_def_cfa_offset 16
	.cfi_offset x29, -16
	.cfi_offset x30, -8
	mov x29, sp
	.cfi_def_cfa_register x29
	mov sp, x0
	blr x1
	mov sp, x29
	.cfi_def_cfa_register sp
	ldp x29, x30, [sp], #16
	.cfi_restore x29
	.cfi_restore x30
	.cfi_def_cfa_offset 0
	ret
	.cfi_endproc
	.size sf_call_on_stack, . - sf_call_on_stack

	.section .note.GNU-stack, "", %progbits
