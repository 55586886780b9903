/* Entry of the copier: argc and argv are on the stack, the result is the exit
 * status. */
#include <asm/unistd.h>

#include "property.inc"

	.text
	.globl _start
	.type _start, %function
_start:
	BTI_C
	mov x29, #0
	mov x30, #0
	ldr x0, [sp]
	add x1, sp, #8
	bl main
	mov x8, #__NR_exit_group
	svc #0
	.size _start, . - _start

	.section .note.GNU-stack, "", %progbits
