/* Moves a signal frame with the library's own objects and returns through it.
 *
 *	frame [crash]
 *
 * A fault's handler runs on an alternate stack, copies the frame to the
 * interrupted stack and enters a second handler there, as an application's
 * handler without SA_ONSTACK is.  That one wrecks the vector registers and
 * returns, or crashes.  Prints what the test asserts, as JSON.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

#include "machine.h"

#define GUARD 64
#define DEEP  (200 * 1024)

struct registers {
	uint8_t v[32][16];
	uint64_t x[29];
};

void interrupted(const struct registers *in, struct registers *out);

static char alternate[65536];
static struct {
	int handled, returned; /* how often */
	int bound, aligned, on_stack, arguments;
} seen;
static char functions[512];
static int crash;

/* Of the library, not under test. */
void sf_note_put(struct sf_output *out, const char *owner, uint32_t type,
		 const void *desc, uint64_t bytes)
{
	(void)out;
	(void)owner;
	(void)type;
	(void)desc;
	(void)bytes;
}

static _Unwind_Reason_Code note_frame(struct _Unwind_Context *context,
				      void *unused)
{
	int before = 0;
	uint64_t pc = _Unwind_GetIPInfo(context, &before);

	(void)unused;
	snprintf(functions + strlen(functions),
		 sizeof(functions) - strlen(functions), "%s\"%#llx\"",
		 *functions ? ", " : "",
		 (unsigned long long)(before ? pc : pc - 1));
	return _URC_NO_REASON;
}

/* Uses more stack than the alternate one has, and every vector register. */
static void __attribute__((noinline)) wreck(void)
{
	volatile char deep[DEEP];

	deep[0] = 1;
	(void)deep[0];
	__asm__ volatile(".irp n, "
			 "0,1,2,3,4,5,6,7,16,17,18,19,20,21,22,23,24,25,26,27,"
			 "28,29,30,31\n"
			 "movi v\\n\\().16b, #0xee\n"
			 ".endr\n"
			 ".irp n, 8,9,10,11,12,13,14,15\n"
			 "movi v\\n\\().16b, #0xee\n"
			 ".endr\n" ::
				 : "memory", "v8", "v9", "v10", "v11", "v12",
				   "v13", "v14", "v15");
}

static void __attribute__((noinline))
handler(int sig, siginfo_t *si, void *context)
{
	struct ucontext *uc = context;
	uint64_t here = (uint64_t)__builtin_frame_address(0);

	seen.handled++;
	seen.arguments = sig == SIGTRAP && si->si_signo == SIGTRAP &&
			 si->si_code == TRAP_BRKPT &&
			 (uint64_t)si->si_addr == sf_pc(uc);
	seen.on_stack = here < sf_sp(uc) && here > sf_sp(uc) - 65536;
	seen.aligned = (uint64_t)si % 16 == 0 && here % 16 == 0;
	_Unwind_Backtrace(note_frame, NULL);
	if (crash)
		*(volatile int *)NULL = 1;
	wreck();
	/* Where the frame was, the next signal may put its own. */
	memset(alternate, 0x55, sizeof(alternate));
	uc->uc_mcontext.pc += 4;
}

static void on_fault(int sig, siginfo_t *si, void *context)
{
	const struct ucontext *uc = context;
	struct sf_frame frame;

	sf_frame_copy(&frame, sf_sp(uc) - GUARD, si, uc);
	seen.bound = sf_sp(uc) - GUARD - frame.sp <= sf_frame_bytes(uc);
	sf_frame_enter(&frame, handler, sig);
}

void sf_handler_returned(struct ucontext *uc)
{
	seen.returned += sf_pc(uc) != 0;
}

static int extra; /* the frame is larger than its fixed part */

static void measure(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)si;
	extra = sf_frame_bytes(uc) >
		sizeof(struct ucontext) + sizeof(siginfo_t) + GUARD;
}

static void handle(int sig, void (*function)(int, siginfo_t *, void *))
{
	struct sigaction action = {
		.sa_handler = (__sighandler_t)(void *)function,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER,
		.sa_restorer = sf_restore,
	};

	syscall(SYS_rt_sigaction, sig, &action, NULL, 8);
}

int main(int argc, char **argv)
{
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
	static struct registers in, out;

	(void)argv;
	crash = argc > 1;
	for (size_t i = 0; i < sizeof(in); i++)
		((uint8_t *)&in)[i] = (uint8_t)(i * 37 + 11);
	syscall(SYS_sigaltstack, &stack, NULL);
	handle(SIGUSR1, measure);
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
	handle(SIGTRAP, on_fault);
	interrupted(&in, &out);
	printf("{\"handled\": %d, \"returned\": %d, \"bound\": %d, "
	       "\"aligned\": %d, \"on_stack\": %d, \"arguments\": %d, "
	       "\"x\": %d, \"v\": %d, \"extra\": %d, \"sve\": %d, "
	       "\"pcs\": [%s]}\n",
	       seen.handled, seen.returned, seen.bound, seen.aligned,
	       seen.on_stack, seen.arguments,
	       memcmp(in.x, out.x, sizeof(in.x)) == 0,
	       memcmp(in.v, out.v, sizeof(in.v)) == 0, extra,
	       (getauxval(AT_HWCAP) >> 22 & 1) != 0, functions);
	return 0;
}
