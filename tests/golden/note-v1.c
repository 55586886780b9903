/* Writes the golden note of format 1: every field another value, then two
 * secret ranges, a request id and two annotations.  The reader's tests compare
 * these bytes and their decoding. */
#include <stdio.h>

#include "note.h"

static const struct sf_note_secret secrets[] = {
	{.address = 0x7ffc12345678, .size = 33},
	{.address = 0x7ffc12346000, .size = 4096},
};

static const char text[] = SF_NOTE_REQUEST_KEY "\0"
					       "GET /cart 77\0"
					       "version\0"
					       "1.2.3\0"
					       "shard\0"
					       "b\xffr";

int main(void)
{
	const struct sf_note note = {
		.size = sizeof(note),
		.format = SF_NOTE_FORMAT,
		.library = 0x010203,
		.flags = SF_FLAG_TRUNCATED | SF_FLAG_STACK_OVERFLOW |
			 SF_FLAG_INIT_PROCESS,
		.id = {0x49, 0x42, 0x9e, 0xc9, 0x9e, 0x6b, 0x02, 0xea, 0xbd,
		       0xe8, 0x6c, 0xf4, 0x28, 0xce, 0x9b, 0xfb},
		.pid = 1,
		.tid = 17,
		.uid = 1000,
		.gid = 2000,
		.start_ticks = 123456789,
		.pid_ns = 4026531836,
		.mnt_ns = 4026531837,
		.user_ns = 4026531838,
		.crash_realtime_ns = 1790000000123456789,
		.crash_monotonic_ns = 1000000000001,
		.snapshot_monotonic_ns = 1000000200002,
		.release_monotonic_ns = 1000012300003,
		.signal = 11,
		.code = 2,
		.address = 0xdead00000000beef,
		.sender_pid = -7,
		.sender_uid = 65534,
		.release = SF_RELEASE_TIMEOUT,
		.involvement = SF_INVOLVEMENT_HANDLER,
		.threads = 40,
		.threads_captured = 39,
		.text_bytes = sizeof(text),
		.secrets = sizeof(secrets) / sizeof(*secrets),
	};

	fwrite(&note, sizeof(note), 1, stdout);
	fwrite(secrets, sizeof(secrets), 1, stdout);
	fwrite(text, sizeof(text), 1, stdout);
	return 0;
}
