/* The text of /proc/self/status and stat, and the writers of text.
 *
 * input: one byte, the size of what is written; any text. */
#include "text.h"

#include "machine.h"
#include "fuzz.h"
#include "notes.h"

static const char *const labels[] = {
	"State:",
	"SigPnd:",
	"SigBlk:",
	"inactive_file ",
	"total_inactive_file ",
};

/* Line by line, where the library goes character by character. */
static const char *field(const char *text, const char *label)
{
	size_t length = sf_strlen(label);

	for (const char *line = text; *line != '\0';) {
		size_t same = 0;

		while (same < length && line[same] == label[same])
			same++;
		if (same == length) {
			for (line += length; *line == ' ' || *line == '\t';)
				line++;
			return line;
		}
		while (*line != '\0' && *line != '\n')
			line++;
		line += *line == '\n';
	}
	return NULL;
}

/* The twentieth field after the last parenthesis, found from the end; 0 unless
 * another follows. */
static uint64_t start_ticks(const char *stat)
{
	const char *at = stat + sf_strlen(stat);
	int blanks = 0;
	uint64_t value;

	while (at > stat && *at != ')')
		at--;
	for (; *at != '\0' && blanks < 20; at++)
		blanks += *at == ' ';
	value = sf_number(&at, 10);
	return *at == ' ' ? value : 0;
}

static void check_copy(const char *text, size_t size)
{
	char *copy = malloc(size);
	size_t length = sf_strlen(text);

	sf_copy(copy, size, text);
	CHECK(sf_strlen(copy) == (length < size ? length : size - 1));
	sf_append_number(copy, size, length);
	sf_append(copy, size, text);
	CHECK(sf_strlen(copy) < size);
	CHECK(sf_equal(copy, copy));
	free(copy);
}

static void check_numbers(const char *text)
{
	for (const char *at = text; *at != '\0'; at++) {
		const char *end = at;
		uint64_t value = sf_number(&end, 10);
		char digits[24] = "";
		const char *again = digits;

		CHECK(end >= at);
		sf_append_number(digits, sizeof(digits), value);
		CHECK(sf_number(&again, 10) == value);
		end = at;
		sf_number(&end, 16);
		at = end > at ? end - 1 : at;
	}
}

static void check_hex(const uint8_t *bytes, size_t size)
{
	char *digits = malloc(2 * size + 1);

	sf_hex(digits, bytes, size);
	CHECK(sf_strlen(digits) == 2 * size);
	for (size_t i = 0; i < size; i++) {
		char pair[] = {digits[2 * i], digits[2 * i + 1], '\0'};
		const char *at = pair;

		CHECK(sf_number(&at, 16) == bytes[i]);
	}
	free(digits);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input in = {bytes, size};
	size_t room = take_byte(&in) + 1;
	char *text = malloc(in.left + 1);

	check_hex(in.at, in.left);
	memcpy(text, in.at, in.left);
	text[in.left] = '\0';
	for (size_t i = 0; i < sizeof(labels) / sizeof(*labels); i++)
		CHECK(sf_field(text, labels[i]) == field(text, labels[i]));
	CHECK(sf_stat_field(text, 22) == start_ticks(text));
	check_copy(text, room);
	check_numbers(text);
	free(text);
	return 0;
}
