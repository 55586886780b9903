/* Prints the vendor note given on stdin as JSON.  Compiled from note.h, so
 * that the tests do not retype the layout. */
#include <stdio.h>

#include "note.h"

int main(void)
{
	struct sf_note n;

	if (fread(&n, sizeof(n), 1, stdin) != 1)
		return 1;
	printf("{\"size\": %u, \"format\": %u, \"library\": %u, \"flags\": "
	       "%u, ",
	       n.size, n.format, n.library, n.flags);
	printf("\"id\": \"");
	for (unsigned i = 0; i < sizeof(n.id); i++)
		printf("%02x", n.id[i]);
	printf("\", \"pid\": %d, \"tid\": %d, \"uid\": %u, \"gid\": %u, ",
	       n.pid, n.tid, n.uid, n.gid);
	printf("\"start_ticks\": %llu, \"pid_ns\": %llu, \"mnt_ns\": %llu, "
	       "\"user_ns\": %llu, ",
	       n.start_ticks, n.pid_ns, n.mnt_ns, n.user_ns);
	printf("\"crash_realtime_ns\": %llu, \"crash_monotonic_ns\": %llu, "
	       "\"snapshot_monotonic_ns\": %llu, \"release_monotonic_ns\": "
	       "%llu, ",
	       n.crash_realtime_ns, n.crash_monotonic_ns,
	       n.snapshot_monotonic_ns, n.release_monotonic_ns);
	printf("\"signal\": %d, \"code\": %d, \"address\": %llu, "
	       "\"sender_pid\": %d, \"sender_uid\": %u, ",
	       n.signal, n.code, n.address, n.sender_pid, n.sender_uid);
	printf("\"release\": %u, \"involvement\": %u, \"threads\": %u, "
	       "\"threads_captured\": %u, \"text_bytes\": %u, \"secrets\": [",
	       n.release, n.involvement, n.threads, n.threads_captured,
	       n.text_bytes);
	for (unsigned i = 0; i < n.secrets; i++) {
		struct sf_note_secret secret;

		if (fread(&secret, sizeof(secret), 1, stdin) != 1)
			return 1;
		printf("%s[%llu, %llu]", i ? ", " : "", secret.address,
		       secret.size);
	}
	printf("], \"text\": \"");
	for (unsigned i = 0; i < n.text_bytes; i++)
		printf("%02x", (unsigned)getchar());
	printf("\"}\n");
	return getchar() != EOF;
}
