/* Annotations: key and value in one place; of one key the newest counts. */
#include "application.h"
#include "places.h"
#include "text.h"

/* Arbitrary: once writing is frozen, only threads that were in the middle of a
 * call still change something, each once. */
#define READS_MOST 64

#define RESERVED "stillframe."

struct annotation {
	char key[STILLFRAME_KEY_BYTES];
	char value[STILLFRAME_VALUE_BYTES];
} __attribute__((aligned(8)));

#define WORDS (sizeof(struct annotation) / sizeof(uint64_t))

static uint64_t states[SF_ANNOTATIONS_PLACES];
static sf_word values[SF_ANNOTATIONS_PLACES * WORDS];

/* No static object: its pointers would be relocations at start-up. */
static struct sf_places table(void)
{
	return (struct sf_places){states, SF_ANNOTATIONS_PLACES, values, WORDS};
}

/* The version of a place and its content, or 0.  A crash may have overwritten
 * the table, so the ends are made sure of. */
static uint64_t read_one(const struct sf_places *places, uint32_t place,
			 struct annotation *ret)
{
	uint64_t version = sf_places_read(places, place, ret, WORDS);

	ret->key[sizeof(ret->key) - 1] = '\0';
	ret->value[sizeof(ret->value) - 1] = '\0';
	return version;
}

/* The version of a place with that key, or 0. */
static uint64_t find(const struct sf_places *places, uint32_t place,
		     const char *key)
{
	char other[STILLFRAME_KEY_BYTES] __attribute__((aligned(8)));
	uint64_t version = sf_places_read(places, place, other,
					  sizeof(other) / sizeof(sf_word));

	other[sizeof(other) - 1] = '\0';
	return version && sf_equal(other, key) ? version : 0;
}

static bool reserved(const char *key)
{
	for (const char *at = RESERVED; *at != '\0'; at++, key++)
		if (*key != *at)
			return false;
	return true;
}

/* True when there is room for `key`: it is set, or another may be. */
static bool has_room(const struct sf_places *places, const char *key)
{
	uint32_t set = 0;

	for (uint32_t i = 0; i < places->count; i++) {
		if (find(places, i, key))
			return true;
		set += __atomic_load_n(&places->state[i], __ATOMIC_RELAXED) >=
		       SF_PLACE_FIRST;
	}
	return set < STILLFRAME_ANNOTATIONS;
}

/* Frees what `version` of the key replaces: the older ones, or, when another
 * thread was faster, that version itself. */
static void replace(const struct sf_places *places, const char *key,
		    uint64_t version, int place)
{
	for (uint32_t i = 0; i < places->count; i++) {
		uint64_t theirs = find(places, i, key);

		if (theirs && theirs < version)
			sf_places_free(places, i, theirs);
		else if (theirs > version && place >= 0)
			sf_places_free(places, (uint32_t)place, version);
	}
}

static int set(const struct sf_places *places, const struct annotation *fresh)
{
	uint64_t version;
	int place;

	if (!has_room(places, fresh->key))
		return STILLFRAME_FULL;
	place = sf_places_fill(places, fresh);
	if (place < 0)
		return STILLFRAME_BUSY;
	version = sf_places_tick();
	sf_places_publish(places, place, version);
	/* A reader that passed this place before, and will miss the one we free
	 * next, learns from the tick that it has to read again. */
	sf_places_tick();
	replace(places, fresh->key, version, place);
	return STILLFRAME_OK;
}

SF_API int stillframe_annotate_v1(const char *key, const char *value)
{
	struct sf_places places = table();
	struct annotation fresh;
	int error = sf_application_ready();

	if (error)
		return error;
	if (!key || *key == '\0' || reserved(key))
		return STILLFRAME_INVALID;
	error = sf_application_text(fresh.key, sizeof(fresh.key), key);
	if (!error && value)
		error = sf_application_text(fresh.value, sizeof(fresh.value),
					    value);
	if (error)
		return error;
	if (value)
		return set(&places, &fresh);
	replace(&places, fresh.key, sf_places_tick(), -1);
	return STILLFRAME_OK;
}

/* Appends "key\0value\0"; the bytes used then. */
static size_t append(char *to, size_t size, size_t used, const char *key,
		     const char *value)
{
	size_t key_bytes = sf_strlen(key) + 1;
	size_t value_bytes = sf_strlen(value) + 1;

	if (key_bytes + value_bytes > size - used)
		return used;
	memcpy(to + used, key, key_bytes);
	memcpy(to + used + key_bytes, value, value_bytes);
	return used + key_bytes + value_bytes;
}

static bool is_newest(const struct sf_places *places, const char *key,
		      uint64_t version)
{
	for (uint32_t i = 0; i < places->count; i++)
		if (find(places, i, key) > version)
			return false;
	return true;
}

static size_t append_all(char *to, size_t size, size_t used)
{
	struct sf_places places = table();
	struct annotation one;

	for (uint32_t i = 0; i < places.count; i++) {
		uint64_t version = read_one(&places, i, &one);

		if (version && is_newest(&places, one.key, version))
			used = append(to, size, used, one.key, one.value);
	}
	return used;
}

size_t sf_annotations_text(const char **ret, size_t most, uint64_t tls_base)
{
	/* Not among what every crash writes: untouched, it costs no page. */
	static char text[SF_TEXT_BYTES];
	char request[STILLFRAME_KEY_BYTES];
	size_t used = 0;
	size_t all;

	*ret = text;
	sf_request_read(tls_base, request);
	if (request[0] != '\0')
		used = append(text, most, 0, SF_NOTE_REQUEST_KEY, request);
	all = used;
	for (int i = 0; sf_places_used() && i < READS_MOST; i++) {
		uint64_t before = sf_places_tick();

		all = append_all(text, most, used);
		if (sf_places_tick() == before + 1)
			break;
	}
	return all;
}
