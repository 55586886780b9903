#include "output.h"

#include "sys.h"
#include "text.h"

void sf_output_open(struct sf_output *ret, int fd)
{
	ret->fd = fd;
	ret->error = 0;
	ret->offset = 0;
	ret->used = 0;
}

void sf_output_flush(struct sf_output *out)
{
	int64_t written = 0;

	if (out->fd >= 0 && out->used > 0 && !out->error)
		written = sf_write_memory(out->fd, out->offset - out->used,
					  (uint64_t)out->buffer, out->used);
	if (written < 0)
		out->error = (int)written;
	out->used = 0;
}

void sf_output_put(struct sf_output *out, const void *bytes, size_t size)
{
	const char *from = bytes;

	while (size > 0) {
		size_t room = sizeof(out->buffer) - out->used;
		size_t part = size < room ? size : room;

		if (out->fd >= 0)
			memcpy(out->buffer + out->used, from, part);
		out->used += part;
		out->offset += part;
		from += part;
		size -= part;
		if (out->used == sizeof(out->buffer))
			sf_output_flush(out);
	}
}

void sf_output_align(struct sf_output *out, uint64_t alignment)
{
	static const char zeros[64];
	uint64_t left = -out->offset & (alignment - 1);

	while (left > 0) {
		uint64_t part = left < sizeof(zeros) ? left : sizeof(zeros);

		sf_output_put(out, zeros, part);
		left -= part;
	}
}

int64_t sf_write_memory(int fd, uint64_t offset, uint64_t address,
			uint64_t size)
{
	uint64_t done = 0;

	while (done < size) {
		long got = sf_sys4(__NR_pwrite64, fd, address + done,
				   size - done, offset + done);

		if (got == -EFAULT || got == 0)
			break;
		if (got == -EINTR)
			continue;
		if (got < 0)
			return got;
		done += (uint64_t)got;
	}
	return (int64_t)done;
}
