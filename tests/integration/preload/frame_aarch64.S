/* interrupted(in, out): faults (brk) with x0..x28 and v0..v31 as in `in`, then
 * stores them in `out`; both are struct registers of frame_aarch64.c. */
	.text
	.globl interrupted
	.type interrupted, %function
interrupted:
	.cfi_startproc
	stp x29, x30, [sp, #-192]!
	.cfi_def_cfa_offset 192
	.cfi_offset x29, -192
	.cfi_offset x30, -184
	stp x19, x20, [sp, #16]
	stp x21, x22, [sp, #32]
	stp x23, x24, [sp, #48]
	stp x25, x26, [sp, #64]
	stp x27, x28, [sp, #80]
	stp d8, d9, [sp, #96]
	stp d10, d11, [sp, #112]
	stp d12, d13, [sp, #128]
	stp d14, d15, [sp, #144]
	str x1, [sp, #160]
	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	ldr q\n, [x0, #(16 * \n)]
	.endr
	.irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28
	ldr x\n, [x0, #(512 + 8 * \n)]
	.endr
	ldr x0, [x0, #512]
	brk #0
	str x0, [sp, #168]
	ldr x0, [sp, #160]
	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	str q\n, [x0, #(16 * \n)]
	.endr
	.irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28
	str x\n, [x0, #(512 + 8 * \n)]
	.endr
	ldr x1, [sp, #168]
	str x1, [x0, #512]
	ldp x19, x20, [sp, #16]
	ldp x21, x22, [sp, #32]
	ldp x23, x24, [sp, #48]
	ldp x25, x26, [sp, #64]
	ldp x27, x28, [sp, #80]
	ldp d8, d9, [sp, #96]
	ldp d10, d11, [sp, #112]
	ldp d12, d13, [sp, #128]
	ldp d14, d15, [sp, #144]
	ldp x29, x30, [sp], #192
	ret
	.cfi_endproc
	.size interrupted, . - interrupted

	.section .note.GNU-stack, "", %progbits
