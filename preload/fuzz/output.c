/* Buffered output and its alignment, against one array.
 *
 * input: for each step a byte: below 224 that many bytes follow and are put;
 * else the output is aligned to a power of two; 255 puts a long run. */
#include "output.h"

#include "fuzz.h"

#define MODEL_BYTES (1U << 20)
#define RUN_BYTES   10000U

static uint8_t model[MODEL_BYTES];

static size_t steps(struct input in, struct sf_output *out)
{
	static uint8_t run[RUN_BYTES];
	size_t used = 0;

	while (in.left > 0 && used + RUN_BYTES + 8192 < MODEL_BYTES) {
		size_t step = take_byte(&in);

		if (step < 224) {
			uint8_t piece[224];

			take(&in, piece, step);
			sf_output_put(out, piece, step);
			memcpy(model + used, piece, step);
			used += step;
		} else if (step < 255) {
			uint64_t alignment = 1ULL << (step % 14);

			sf_output_align(out, alignment);
			while (used % alignment)
				model[used++] = 0;
		} else {
			memset(run, take_byte(&in), sizeof(run));
			sf_output_put(out, run, sizeof(run));
			memcpy(model + used, run, sizeof(run));
			used += sizeof(run);
		}
		CHECK(out->offset == used);
	}
	return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct sf_output *out = malloc(sizeof(*out));
	int fd = scratch_file();
	size_t counted;
	size_t used;
	uint8_t *file;

	sf_output_open(out, SF_OUTPUT_COUNT_ONLY);
	counted = steps((struct input){bytes, size}, out);
	sf_output_flush(out);
	sf_output_open(out, fd);
	used = steps((struct input){bytes, size}, out);
	sf_output_flush(out);
	CHECK(out->error == 0 && used == counted);
	file = malloc(used + 1);
	CHECK(sf_sys4(__NR_pread64, fd, file, used + 1, 0) == (long)used);
	for (size_t i = 0; i < used; i++)
		CHECK(file[i] == model[i]);
	free(file);
	free(out);
	return 0;
}
