#include "places.h"

#include "sys.h"

static uint64_t last;
/* Keyed by pid: a vfork child that crashes shares this memory. */
static int frozen;

bool sf_places_frozen(void)
{
	int pid = __atomic_load_n(&frozen, __ATOMIC_ACQUIRE);

	return pid != 0 && pid == sf_getpid();
}

void sf_places_freeze(int pid)
{
	__atomic_store_n(&frozen, pid, __ATOMIC_SEQ_CST);
}

uint64_t sf_places_tick(void)
{
	return __atomic_add_fetch(&last, 1, __ATOMIC_SEQ_CST) + SF_PLACE_FIRST;
}

bool sf_places_used(void)
{
	return __atomic_load_n(&last, __ATOMIC_SEQ_CST) != 0;
}

int sf_places_fill(const struct sf_places *places, const void *value)
{
	const sf_word *from = value;

	for (uint32_t i = 0; i < places->count; i++) {
		sf_word *to = &places->values[(size_t)i * places->words];
		uint64_t expected = SF_PLACE_FREE;

		if (!__atomic_compare_exchange_n(
			    &places->state[i], &expected, SF_PLACE_FILLING,
			    false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			continue;
		/* Or a reader could see a new word and the old version. */
		__atomic_thread_fence(__ATOMIC_RELEASE);
		for (uint32_t word = 0; word < places->words; word++)
			__atomic_store_n(&to[word], from[word],
					 __ATOMIC_RELAXED);
		return (int)i;
	}
	return -1;
}

void sf_places_publish(const struct sf_places *places, int place,
		       uint64_t version)
{
	/* Ordered before the look at the other places that follows: of two
	 * writers of one key at least one has to see the other. */
	__atomic_store_n(&places->state[place], version, __ATOMIC_SEQ_CST);
}

uint64_t sf_places_read(const struct sf_places *places, uint32_t place,
			void *ret, uint32_t words)
{
	const sf_word *from = &places->values[(size_t)place * places->words];
	uint64_t version =
		__atomic_load_n(&places->state[place], __ATOMIC_SEQ_CST);
	sf_word *to = ret;

	if (version < SF_PLACE_FIRST)
		return 0;
	for (uint32_t word = 0; word < words; word++)
		to[word] = __atomic_load_n(&from[word], __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&places->state[place], __ATOMIC_RELAXED) ==
			       version
		       ? version
		       : 0;
}

bool sf_places_free(const struct sf_places *places, uint32_t place,
		    uint64_t version)
{
	return __atomic_compare_exchange_n(&places->state[place], &version,
					   SF_PLACE_FREE, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}
