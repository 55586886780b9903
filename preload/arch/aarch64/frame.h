/* Offsets in the kernel's struct rt_sigframe, bytes, for restore.S; arch.c
 * checks them. */
#ifndef SF_ARCH_FRAME_H
#define SF_ARCH_FRAME_H

#define FRAME_UC   128 /* sizeof(siginfo_t) */
#define FRAME_REGS (FRAME_UC + 184)
#define FRAME_SP   (FRAME_REGS + 31 * 8)
#define FRAME_PC   (FRAME_SP + 8)

#endif
