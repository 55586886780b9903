/* Memory that no snapshot may contain. */
#include "application.h"
#include "places.h"

#define WORDS (sizeof(struct sf_note_secret) / sizeof(uint64_t))

static uint64_t states[STILLFRAME_SECRETS];
static sf_word values[STILLFRAME_SECRETS * WORDS];

static struct sf_places table(void)
{
	return (struct sf_places){states, STILLFRAME_SECRETS, values, WORDS};
}

static int check(const volatile void *address, size_t size)
{
	int error = sf_application_ready();

	if (!error && (size == 0 || (uint64_t)address + size < size))
		error = STILLFRAME_INVALID;
	return error;
}

SF_API int stillframe_secret_add_v1(const volatile void *address, size_t size)
{
	struct sf_note_secret range = {(uint64_t)address, size};
	struct sf_places places = table();
	int error = check(address, size);
	int place;

	if (error)
		return error;
	place = sf_places_fill(&places, &range);
	if (place < 0)
		return STILLFRAME_FULL;
	sf_places_publish(&places, place, sf_places_tick());
	return STILLFRAME_OK;
}

SF_API int stillframe_secret_remove_v1(const volatile void *address,
				       size_t size)
{
	struct sf_places places = table();
	struct sf_note_secret range;
	int error = check(address, size);

	for (uint32_t i = 0; !error && i < places.count; i++) {
		uint64_t version = sf_places_read(&places, i, &range, WORDS);

		if (version && range.address == (uint64_t)address &&
		    range.size == size && sf_places_free(&places, i, version))
			return STILLFRAME_OK;
	}
	return error ? error : STILLFRAME_INVALID;
}

uint32_t sf_secrets_read(const struct sf_note_secret **ret)
{
	static struct sf_note_secret sorted[STILLFRAME_SECRETS];
	struct sf_places places = table();
	struct sf_note_secret range;
	uint32_t count = 0;

	*ret = sorted;
	for (uint32_t i = 0; sf_places_used() && i < places.count; i++) {
		uint32_t at = count;

		if (!sf_places_read(&places, i, &range, WORDS))
			continue;
		for (; at > 0 && sorted[at - 1].address > range.address; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = range;
		count++;
	}
	return count;
}
