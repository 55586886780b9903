/* The judge of seccomp filters, against the kernel: of every program that it
 * takes, both say the same.
 *
 * The kernel runs the program as a socket filter, which is the same machine
 * (net/core/filter.c) with the same checks but for what seccomp_check_filter()
 * adds.  A datagram stands for struct seccomp_data, with its words in network
 * order, because that is how a socket filter loads them.  Its answer is how
 * much of the datagram to keep: all, or nothing where the call is not to
 * return.
 *
 * input: a struct seccomp_data; then for each instruction five bytes: which of
 * seccomp's, or one that is not, jt, jf, what k is, and k. */
#include "../src/filter.c" /* also what is static: our calls, and one answer */

#include <asm/socket.h>

#include "fuzz.h"

/* In no header of the kernel's. */
#define AF_UNIX	     1
#define SOCK_DGRAM   2
#define MSG_DONTWAIT 0x40

#define STEPS	   256
#define STEP_BYTES 5 /* of input */
#define EPILOGUE   7

/* What seccomp_check_filter() lets through. */
static const uint16_t codes[] = {
	BPF_LD | BPF_W | BPF_ABS,
	BPF_LD | BPF_W | BPF_LEN,
	BPF_LDX | BPF_W | BPF_LEN,
	BPF_RET | BPF_K,
	BPF_RET | BPF_A,
	BPF_ALU | BPF_ADD | BPF_K,
	BPF_ALU | BPF_ADD | BPF_X,
	BPF_ALU | BPF_SUB | BPF_K,
	BPF_ALU | BPF_SUB | BPF_X,
	BPF_ALU | BPF_MUL | BPF_K,
	BPF_ALU | BPF_MUL | BPF_X,
	BPF_ALU | BPF_DIV | BPF_K,
	BPF_ALU | BPF_DIV | BPF_X,
	BPF_ALU | BPF_AND | BPF_K,
	BPF_ALU | BPF_AND | BPF_X,
	BPF_ALU | BPF_OR | BPF_K,
	BPF_ALU | BPF_OR | BPF_X,
	BPF_ALU | BPF_XOR | BPF_K,
	BPF_ALU | BPF_XOR | BPF_X,
	BPF_ALU | BPF_LSH | BPF_K,
	BPF_ALU | BPF_LSH | BPF_X,
	BPF_ALU | BPF_RSH | BPF_K,
	BPF_ALU | BPF_RSH | BPF_X,
	BPF_ALU | BPF_NEG,
	BPF_LD | BPF_IMM,
	BPF_LDX | BPF_IMM,
	BPF_MISC | BPF_TAX,
	BPF_MISC | BPF_TXA,
	BPF_LD | BPF_MEM,
	BPF_LDX | BPF_MEM,
	BPF_ST,
	BPF_STX,
	BPF_JMP | BPF_JA,
	BPF_JMP | BPF_JEQ | BPF_K,
	BPF_JMP | BPF_JEQ | BPF_X,
	BPF_JMP | BPF_JGE | BPF_K,
	BPF_JMP | BPF_JGE | BPF_X,
	BPF_JMP | BPF_JGT | BPF_K,
	BPF_JMP | BPF_JGT | BPF_X,
	BPF_JMP | BPF_JSET | BPF_K,
	BPF_JMP | BPF_JSET | BPF_X,
};

#define CODES (sizeof(codes) / sizeof(*codes))

static bool is_seccomp(const struct sock_filter *step)
{
	bool listed = false;

	for (size_t i = 0; i < CODES; i++)
		listed |= step->code == codes[i];
	if (step->code == (BPF_LD | BPF_W | BPF_ABS))
		return step->k < sizeof(struct seccomp_data) &&
		       step->k % 4 == 0;
	return listed;
}

/* k as it is, as an action of seccomp, as its complement, or as one of the
 * calls that the judge asks about. */
static uint32_t constant(uint8_t how, uint8_t k)
{
	static const uint32_t actions[] = {
		SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD,
		SECCOMP_RET_TRAP,	  SECCOMP_RET_ERRNO,
		SECCOMP_RET_USER_NOTIF,	  SECCOMP_RET_TRACE,
		SECCOMP_RET_LOG,	  SECCOMP_RET_ALLOW,
	};

	switch (how % 4) {
	case 0:
		return k;
	case 1:
		return actions[k % 8] + k / 8;
	case 2:
		return ~(uint32_t)k;
	default:
		return (uint32_t)calls[k % (sizeof(calls) / sizeof(*calls))];
	}
}

/* Brings the operands to where the kernel wants them, `left` steps before the
 * end. */
static void make_valid(struct sock_filter *step, uint32_t left)
{
	uint16_t class = BPF_CLASS(step->code);
	uint16_t op = BPF_OP(step->code);

	if (step->code == (BPF_LD | BPF_W | BPF_ABS))
		step->k = step->k * 4 % sizeof(struct seccomp_data);
	else if (class == BPF_ST || class == BPF_STX ||
		 (class < BPF_ST && BPF_MODE(step->code) == BPF_MEM))
		step->k %= BPF_MEMWORDS;
	else if (class == BPF_ALU && (op == BPF_LSH || op == BPF_RSH))
		step->k %= 32;
	else if (class == BPF_JMP && op == BPF_JA)
		step->k %= left;
	step->jt %= left;
	step->jf %= left;
}

/* Mostly ends as the kernel wants it: by an answer. */
static struct sock_fprog take_program(struct input *in, struct sock_filter *ret)
{
	uint32_t length = in->left / STEP_BYTES;

	length = length < STEPS ? length : STEPS;
	for (uint32_t i = 0; i < length; i++) {
		uint8_t which = take_byte(in);
		struct sock_filter step = {.jt = take_byte(in),
					   .jf = take_byte(in)};
		uint8_t how = take_byte(in);

		step.k = constant(how, take_byte(in));
		step.code = codes[which % CODES];
		if (which >= 250) /* none of them */
			step.code = (uint16_t)(which ^ how << 3);
		if (i + 1 == length && !(how & 64))
			step = (struct sock_filter)BPF_STMT(BPF_RET | BPF_A, 0);
		else if (!(how & 128))
			make_valid(&step, length - i - 1 ? length - i - 1 : 1);
		ret[i] = step;
	}
	return (struct sock_fprog){(uint16_t)length, ret};
}

static int ends[2] = {-1, -1};

/* False where the kernel refuses it. */
static bool attach(const struct sock_fprog *program)
{
	if (ends[0] < 0)
		CHECK(sf_sys4(__NR_socketpair, AF_UNIX, SOCK_DGRAM, 0, ends) ==
		      0);
	return sf_sys5(__NR_setsockopt, ends[1], SOL_SOCKET, SO_ATTACH_FILTER,
		       program, sizeof(*program)) == 0;
}

/* By seccomp(2).  Not lets_return(), which is what we check. */
static bool returns(uint32_t answer)
{
	uint32_t action = answer & SECCOMP_RET_ACTION_FULL;

	return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG ||
	       action == SECCOMP_RET_TRACE || action == SECCOMP_RET_ERRNO;
}

/* The same program with another answer: 1 where the call is to return, else 0.
 * What it computes goes to an epilogue. */
static bool attach_judge(const struct sock_fprog *program)
{
	static struct sock_filter steps[STEPS + EPILOGUE];
	static const struct sock_filter epilogue[EPILOGUE] = {
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, SECCOMP_RET_ACTION_FULL),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SECCOMP_RET_ALLOW, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SECCOMP_RET_LOG, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SECCOMP_RET_TRACE, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SECCOMP_RET_ERRNO, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, 1),
	};
	struct sock_fprog judge = {program->len + EPILOGUE, steps};

	for (uint32_t i = 0; i < program->len; i++) {
		steps[i] = program->filter[i];
		if (steps[i].code == (BPF_RET | BPF_K))
			steps[i].k = returns(steps[i].k);
		if (steps[i].code == (BPF_RET | BPF_A))
			steps[i] = (struct sock_filter)BPF_STMT(
				BPF_JMP | BPF_JA, program->len - i - 1);
	}
	memcpy(steps + program->len, epilogue, sizeof(epilogue));
	return attach(&judge);
}

/* What the kernel says about one call. */
static bool kernel_lets_return(const struct seccomp_data *data)
{
	uint32_t words[sizeof(*data) / sizeof(uint32_t)];
	char first;

	memcpy(words, data, sizeof(words));
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		words[i] = __builtin_bswap32(words[i]);
	CHECK(sf_sys3(__NR_write, ends[0], words, sizeof(words)) ==
	      sizeof(words));
	return sf_sys6(__NR_recvfrom, ends[1], &first, 1, MSG_DONTWAIT, 0, 0) ==
	       1;
}

static void check_agreement(const struct sock_fprog *program,
			    const struct seccomp_data *other)
{
	struct seccomp_data data = {.arch = SF_AUDIT_ARCH};
	bool deadly = false;

	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		data.nr = calls[i];
		deadly |= !kernel_lets_return(&data);
	}
	CHECK(sf_filter_is_deadly(program) == deadly);
	CHECK(lets_return(run(program, other)) == kernel_lets_return(other));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct sock_filter steps[STEPS];
	struct input in = {bytes, size};
	struct seccomp_data other;
	struct sock_fprog program;
	bool taken = true;

	take(&in, &other, sizeof(other));
	program = take_program(&in, steps);
	/* In memory of its own: what lies behind it is poisoned. */
	program.filter = malloc(program.len * sizeof(*steps));
	memcpy(program.filter, steps, program.len * sizeof(*steps));
	for (uint32_t i = 0; i < program.len; i++)
		taken &= is_seccomp(&program.filter[i]);
	if (taken && attach(&program)) {
		CHECK(attach_judge(&program));
		check_agreement(&program, &other);
	} else {
		sf_filter_is_deadly(&program);
	}
	free(program.filter);
	return 0;
}
