#include "config.h"

#include <asm/signal.h>

#include "sys.h"
#include "text.h"

/* Far beyond any sense, and small enough for sums in nanoseconds: a hold of
 * 2^64 ms must not become one of a few. */
#define NUMBER_MAX 1000000000000ULL

#define BIT(sig) (1ULL << ((sig)-1))

struct sf_config sf_config;

static const struct {
	char name[5]; /* no pointer: that would be a relocation at start-up */
	int number;
} signals[] = {
	{"SEGV", SIGSEGV}, {"BUS", SIGBUS},   {"ILL", SIGILL},
	{"FPE", SIGFPE},   {"ABRT", SIGABRT}, {"TRAP", SIGTRAP},
	{"SYS", SIGSYS},   {"QUIT", SIGQUIT}, {"XCPU", SIGXCPU},
	{"XFSZ", SIGXFSZ},
};

/* musl hands constructors no arguments, so the environment comes from libc's
 * variable.  Weak: with neither (no libc at all) the defaults apply, and an
 * undefined strong symbol would keep the process from starting. */
extern char **environ __attribute__((weak, visibility("default")));
extern char **__environ __attribute__((weak, visibility("default")));

/* The value of `name` in one "name=value" entry, or NULL. */
static const char *value_of(const char *entry, const char *name)
{
	while (*name != '\0' && *entry == *name) {
		entry++;
		name++;
	}
	return *name == '\0' && *entry == '=' ? entry + 1 : NULL;
}

static void set_number(uint64_t *ret, const char *value)
{
	const char *end = value;
	uint64_t number = sf_number(&end, 10);

	if (end != value && *end == '\0')
		*ret = number < NUMBER_MAX ? number : NUMBER_MAX;
}

/* "SEGV,ABRT": names without the SIG prefix; unknown ones are ignored. */
static uint64_t parse_signals(const char *list)
{
	uint64_t set = 0;

	while (*list != '\0') {
		char name[8];
		size_t used = 0;

		for (; *list != '\0' && *list != ','; list++)
			if (used + 1 < sizeof(name))
				name[used++] = *list;
		name[used] = '\0';
		if (*list == ',')
			list++;
		for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
			if (sf_equal(name, signals[i].name))
				set |= BIT(signals[i].number);
	}
	return set;
}

static void set_one(struct sf_config *c, const char *entry)
{
	const char *value;

	if ((value = value_of(entry, "STILLFRAME_DISABLED")))
		c->disabled = sf_equal(value, "1");
	else if ((value = value_of(entry, "STILLFRAME_DEBUG")))
		c->debug = sf_equal(value, "1");
	else if ((value = value_of(entry, "STILLFRAME_DIR")))
		/* Cut short it would name another directory: rather none. */
		sf_copy(c->dir, sizeof(c->dir),
			sf_strlen(value) < sizeof(c->dir) ? value : "");
	else if ((value = value_of(entry, "STILLFRAME_SIGNALS")))
		c->signals = parse_signals(value);
	else if ((value = value_of(entry, "STILLFRAME_HOLD_MS")))
		set_number(&c->hold_ms, value);
	else if ((value = value_of(entry, "STILLFRAME_CLAIM_MS")))
		set_number(&c->claim_ms, value);
	else if ((value = value_of(entry, "STILLFRAME_MAX_BYTES")))
		set_number(&c->max_bytes, value);
}

static char **environment(void)
{
	return &environ ? environ : &__environ ? __environ : NULL;
}

bool sf_config_readable(void)
{
	return environment() != NULL;
}

void sf_config_load(void)
{
	char **env = environment();

	sf_copy(sf_config.dir, sizeof(sf_config.dir), "/dev/shm/stillframe");
	sf_config.signals = BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGILL) |
			    BIT(SIGFPE) | BIT(SIGABRT) | BIT(SIGTRAP) |
			    BIT(SIGSYS);
	sf_config.hold_ms = 5000;
	sf_config.claim_ms = 250;
	sf_config.max_bytes = 4 << 20;
	for (; env && *env; env++)
		if ((*env)[0] == 'S')
			set_one(&sf_config, *env);
}
