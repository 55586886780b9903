#include "headroom.h"

#include <asm/statfs.h>

#include "config.h"
#include "sys.h"
#include "text.h"

#define CGROUP	 "/sys/fs/cgroup/"
#define CGROUP_1 "/sys/fs/cgroup/memory/"

/* The budget where neither hierarchy can be read. */
#define UNKNOWN_BYTES (4ULL << 20)

#define LEAST_LEFT (160ULL << 10)

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The number in a file; UINT64_MAX for "max", 0 when unreadable. */
static uint64_t read_number(const char *path)
{
	char text[32];
	const char *at = text;

	if (sf_read_file(path, text, sizeof(text)) <= 0)
		return 0;
	return *at == 'm' ? UINT64_MAX : sf_number(&at, 10);
}

/* Page cache the kernel drops before it kills anybody. */
static uint64_t reclaimable(const char *path, const char *label)
{
	static char stat[4096];
	const char *value;

	if (sf_read_file(path, stat, sizeof(stat)) <= 0)
		return 0;
	value = sf_field(stat, label);
	return value ? sf_number(&value, 10) : 0;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* What the container's memory limit leaves; a limit of the whole pod cannot be
 * seen from inside. */
static uint64_t memory_left(void)
{
	uint64_t limit = read_number(CGROUP "memory.max");
	uint64_t used = 0;

	if (limit) {
		if (limit == UINT64_MAX)
			return limit;
		used = less(
			read_number(CGROUP "memory.current"),
			reclaimable(CGROUP "memory.stat", "inactive_file "));
	} else {
		limit = read_number(CGROUP_1 "memory.limit_in_bytes");
		if (!limit)
			return UNKNOWN_BYTES;
		used = less(read_number(CGROUP_1 "memory.usage_in_bytes"),
			    reclaimable(CGROUP_1 "memory.stat",
					"total_inactive_file "));
	}
	return less(limit, used);
}

bool sf_may_snapshot(void)
{
	return memory_left() >= LEAST_LEFT;
}

uint64_t sf_headroom(int fd)
{
	struct statfs volume;
	uint64_t left = memory_left();

	if (sf_sys2(__NR_fstatfs, fd, &volume) == 0)
		left = least(left, (uint64_t)volume.f_bavail *
					   (uint64_t)volume.f_bsize);
	return least(sf_config.max_bytes, left / 4);
}
