/* Entry of the copier: argc and argv are on the stack, the result is the exit
 * status. */
#include <asm/unistd.h>
#include <cet.h>

	.text
	.globl _start
	.type _start, @function
_start:
	_CET_ENDBR
	xorl %ebp, %ebp
	movq (%rsp), %rdi
	leaq 8(%rsp), %rsi
	andq $-16, %rsp
	call main
	movl %eax, %edi
	movl $__NR_exit_group, %eax
	syscall
	.size _start, . - _start

	.section .note.GNU-stack, "", @progbits
