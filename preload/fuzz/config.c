/* The configuration, from any environment.
 *
 * input: strings that end with a NUL (the last one may not). */
#include "config.h"

#include <string.h>

#include "fuzz.h"

#define STRINGS_MAX 64
#define KNOWN_SIGNALS                                                          \
	(1ULL << 10 | 1ULL << 6 | 1ULL << 3 | 1ULL << 7 | 1ULL << 5 |          \
	 1ULL << 4 | 1ULL << 30 | 1ULL << 2 | 1ULL << 23 | 1ULL << 24)

extern char **environ;

/* The value of the last entry of that name, or NULL. */
static const char *last_value(char **strings, const char *name)
{
	size_t length = strlen(name);
	const char *found = NULL;

	for (; *strings; strings++)
		if (strncmp(*strings, name, length) == 0 &&
		    (*strings)[length] == '=')
			found = *strings + length + 1;
	return found;
}

/* What a reader of the documentation expects: the number, or, for one beyond
 * any sense, something just as large. */
static void check_number(char **strings, const char *name, uint64_t value,
			 uint64_t normal)
{
	const char *text = last_value(strings, name);
	size_t digits = text ? strspn(text, "0123456789") : 0;
	unsigned long long number;

	if (!text) {
		CHECK(value == normal);
	} else if (digits > 0 && text[digits] == '\0') {
		number = strtoull(text, NULL, 10); /* ULLONG_MAX beyond it */
		CHECK(value == number ||
		      (value < number && value > 1000000000));
		/* The users' sums: nanoseconds, and a margin. */
		CHECK(value < ~0ULL / 1000000 / 2);
	}
}

static void check_directory(char **strings)
{
	const char *text = last_value(strings, "STILLFRAME_DIR");

	CHECK(memchr(sf_config.dir, '\0', sizeof(sf_config.dir)));
	if (!text)
		text = "/dev/shm/stillframe";
	CHECK(strcmp(sf_config.dir,
		     strlen(text) < sizeof(sf_config.dir) ? text : "") == 0);
}

static void check_flag(char **strings, const char *name, bool value)
{
	const char *text = last_value(strings, name);

	CHECK(value == (text && strcmp(text, "1") == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	char **outer = environ;
	char *strings[STRINGS_MAX + 1] = {NULL};
	char *text = malloc(size + 1);
	int count = 0;

	memcpy(text, bytes, size);
	text[size] = '\0';
	for (size_t at = 0; at < size && count < STRINGS_MAX;
	     at += strlen(text + at) + 1)
		strings[count++] = strdup(text + at);
	memset(&sf_config, 0, sizeof(sf_config));
	environ = strings;
	sf_config_load();
	environ = outer;

	check_directory(strings);
	check_number(strings, "STILLFRAME_HOLD_MS", sf_config.hold_ms, 5000);
	check_number(strings, "STILLFRAME_CLAIM_MS", sf_config.claim_ms, 250);
	check_number(strings, "STILLFRAME_MAX_BYTES", sf_config.max_bytes,
		     4 << 20);
	check_flag(strings, "STILLFRAME_DISABLED", sf_config.disabled);
	check_flag(strings, "STILLFRAME_DEBUG", sf_config.debug);
	CHECK((sf_config.signals & ~KNOWN_SIGNALS) == 0);
	for (int i = 0; i < count; i++)
		free(strings[i]);
	free(text);
	return 0;
}
