/* What an application says about itself: by the calls that say it, against a
 * list; and from tables that a crash has overwritten with anything.
 *
 * input: the room for the text, two bytes.  Then, when the next byte is even,
 * calls: what to do, and a letter and a length for the key and for the value.
 * When it is odd, the request of a thread, and for each place of the table its
 * version, key and value. */
#include "../src/annotations.c" /* also what is static: the table */
#include "../src/request.c"	/* and a thread's request */

#include "fuzz.h"

#define CALLS_MAX 200
#define VERSIONS  8
#define LONGEST	  512

/* Its owner is init.c, which is no pure part. */
void sf_init(void)
{
}

static uint64_t thread(void)
{
	return (uint64_t)__builtin_thread_pointer();
}

struct pair {
	char key[STILLFRAME_KEY_BYTES], value[STILLFRAME_VALUE_BYTES];
	bool seen;
};

/* What the text should say, in any order but for the request. */
static struct pair model[SF_ANNOTATIONS_PLACES];
static uint32_t count;
static char model_request[STILLFRAME_KEY_BYTES];

static struct pair *find_in_model(const char *key)
{
	for (uint32_t i = 0; i < count; i++)
		if (sf_equal(model[i].key, key))
			return &model[i];
	return NULL;
}

static void reset(void)
{
	memset(states, 0, sizeof(states));
	memset(values, 0, sizeof(values));
	memset(&request, 0, sizeof(request));
	offset = 0;
	count = 0;
	model_request[0] = '\0';
	sf_places_freeze(0);
}

/* The next string of the text, which has to end where its limit allows. */
static const char *next_string(const char **at, const char *end, size_t limit)
{
	const char *found = *at;

	while (*at < end && **at != '\0')
		++*at;
	CHECK(*at < end && (size_t)(*at - found) < limit);
	++*at;
	return found;
}

/* A pair that the text says: of the model, and for the first time.  Of a key
 * that an overwritten table has twice in one version, both are in it. */
static void check_pair(const char *key, const char *value)
{
	for (uint32_t i = 0; i < count; i++)
		if (!model[i].seen && sf_equal(model[i].key, key) &&
		    sf_equal(model[i].value, value)) {
			model[i].seen = true;
			return;
		}
	CHECK(!"a pair that is in the model");
}

/* Whoever is not in the text had no room. */
static void check_missing(size_t left)
{
	for (uint32_t i = 0; i < count; i++) {
		size_t bytes =
			sf_strlen(model[i].key) + sf_strlen(model[i].value) + 2;

		CHECK(model[i].seen || bytes > left);
		model[i].seen = false;
	}
}

static void check_text(size_t most, uint64_t tls_base)
{
	static const char request_key[] = SF_NOTE_REQUEST_KEY;
	size_t request_bytes = sizeof(request_key) + sf_strlen(model_request);
	const char *text;
	size_t bytes = sf_annotations_text(&text, most, tls_base);
	char *copy =
		malloc(bytes); /* so that what lies behind it is poisoned */
	const char *at = copy;

	CHECK(bytes <= most);
	memcpy(copy, text, bytes);
	if (model_request[0] != '\0' && request_bytes < most) {
		CHECK(sf_equal(next_string(&at, copy + bytes, LONGEST),
			       request_key));
		CHECK(sf_equal(next_string(&at, copy + bytes, LONGEST),
			       model_request));
	}
	while (at < copy + bytes) {
		const char *key =
			next_string(&at, copy + bytes, STILLFRAME_KEY_BYTES);

		check_pair(key, next_string(&at, copy + bytes,
					    STILLFRAME_VALUE_BYTES));
	}
	check_missing(most - bytes);
	free(copy);
}

/* So many of one letter. */
static size_t take_text(struct input *in, char ret[LONGEST], size_t unit)
{
	char letter = (char)('a' + take_byte(in) % 16);
	size_t length = take_byte(in) * unit;

	memset(ret, letter, length);
	ret[length] = '\0';
	return length;
}

static int expected_of_key(const char *key, size_t length)
{
	if (sf_places_frozen())
		return STILLFRAME_BUSY;
	if (length == 0 || reserved(key))
		return STILLFRAME_INVALID;
	return length < STILLFRAME_KEY_BYTES ? STILLFRAME_OK
					     : STILLFRAME_TOO_LONG;
}

static void annotate(struct input *in, bool remove, bool is_reserved)
{
	char key[LONGEST];
	char value[LONGEST];
	size_t key_length = take_text(in, key, 1);
	size_t value_length = take_text(in, value, 2);
	struct pair *pair;
	int expected;

	if (is_reserved)
		memcpy(key, "stillframe.", 11);
	pair = find_in_model(key);
	expected = expected_of_key(key, key_length);
	if (!expected && !remove && value_length >= STILLFRAME_VALUE_BYTES)
		expected = STILLFRAME_TOO_LONG;
	if (!expected && !remove && !pair && count == STILLFRAME_ANNOTATIONS)
		expected = STILLFRAME_FULL;
	CHECK(stillframe_annotate_v1(key, remove ? NULL : value) == expected);
	if (expected)
		return;
	if (remove && pair)
		*pair = model[--count];
	if (remove)
		return;
	if (!pair)
		pair = &model[count++];
	memcpy(pair->key, key, key_length + 1);
	memcpy(pair->value, value, value_length + 1);
}

static void work_on(struct input *in, bool nothing)
{
	char id[LONGEST];
	size_t length = take_text(in, id, 1);
	int expected = sf_places_frozen() ? STILLFRAME_BUSY
		       : !nothing && length >= STILLFRAME_KEY_BYTES
			       ? STILLFRAME_TOO_LONG
			       : STILLFRAME_OK;

	CHECK(stillframe_request_v1(nothing ? NULL : id) == expected);
	if (expected)
		return;
	memcpy(model_request, id, nothing ? 0 : length);
	model_request[nothing ? 0 : length] = '\0';
}

static void check_calls(struct input *in, size_t most)
{
	for (int i = 0; in->left > 0 && i < CALLS_MAX; i++) {
		uint8_t what = take_byte(in);

		switch (what % 8) {
		case 0:
			work_on(in, what & 8);
			break;
		case 1:
			annotate(in, true, false);
			break;
		case 2:
			sf_places_freeze(what & 8 ? sf_getpid() : 0);
			break;
		case 3:
			annotate(in, what & 8, true);
			break;
		case 4:
			check_text(most, thread());
			break;
		default:
			annotate(in, false, false);
		}
	}
	check_text(most, thread());
	check_text(SF_TEXT_BYTES, thread());
}

static void take_versions(struct input *in, uint64_t ret[VERSIONS])
{
	for (uint32_t i = 0; i < VERSIONS; i++)
		ret[i] = i < 6 ? i : take_word(in);
}

/* Of each key the newest, by comparing all with all. */
static void expect_table(void)
{
	static struct pair all[SF_ANNOTATIONS_PLACES];

	for (uint32_t i = 0; i < SF_ANNOTATIONS_PLACES; i++) {
		memcpy(&all[i], &values[i * WORDS], sizeof(struct annotation));
		all[i].key[sizeof(all[i].key) - 1] = '\0';
		all[i].value[sizeof(all[i].value) - 1] = '\0';
	}
	for (uint32_t i = 0; i < SF_ANNOTATIONS_PLACES; i++) {
		bool newest = states[i] >= SF_PLACE_FIRST;

		for (uint32_t j = 0; j < SF_ANNOTATIONS_PLACES; j++)
			if (states[j] > states[i] &&
			    sf_equal(all[j].key, all[i].key))
				newest = false;
		if (newest)
			model[count++] = all[i];
	}
}

/* A request may be any; it is left out unless the text begins with it. */
static void take_request(struct input *in)
{
	request.current = take_byte(in) % (TEXTS + 3);
	if (request.current == TEXTS + 2)
		request.current = (uint32_t)take_word(in);
	request.writing = (uint32_t)take_word(in);
	for (int i = 0; i < TEXTS; i++)
		memset(request.text[i], take_byte(in), STILLFRAME_KEY_BYTES);
	offset = (uint64_t)&request - thread();
	if (request.current >= 1 && request.current <= TEXTS)
		sf_copy(model_request, sizeof(model_request),
			request.text[request.current - 1]);
}

static void survive_any(struct input *in, size_t most)
{
	uint64_t versions[VERSIONS];
	uint64_t elsewhere;

	sf_places_tick(); /* or nobody would look at it */
	take_versions(in, versions);
	take_request(in);
	elsewhere = take_word(in);
	for (uint32_t i = 0; i < SF_ANNOTATIONS_PLACES; i++) {
		char *to = (char *)&values[i * WORDS];
		char text[LONGEST];

		states[i] = versions[take_byte(in) % VERSIONS];
		take_text(in, text, 1);
		memcpy(to, text, STILLFRAME_KEY_BYTES);
		take_text(in, text, 2);
		memcpy(to + STILLFRAME_KEY_BYTES, text, STILLFRAME_VALUE_BYTES);
	}
	expect_table();
	check_text(most, thread());
	check_text(SF_TEXT_BYTES, thread());
	model_request[0] = '\0';
	offset = elsewhere;
	check_text(SF_TEXT_BYTES, 1);
	stillframe_annotate_v1("a", "b");
	stillframe_annotate_v1("a", NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input in = {bytes, size};
	size_t most = take_byte(&in);

	most = (most << 8 | take_byte(&in)) % (SF_TEXT_BYTES + 1);
	reset();
	if (take_byte(&in) & 1)
		survive_any(&in, most);
	else
		check_calls(&in, most);
	return 0;
}
