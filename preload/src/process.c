#include "process.h"

#include "inflight.h"
#include "sys.h"

#define MADV_WIPEONFORK 18 /* Linux 4.14, commit d2cd9ede6e19 */

/* A page that fork() empties and vfork() shares; the pid says who filled it.
 * Where the kernel cannot empty it a forked child looks like a vfork child:
 * what it asks for stays native, and is not seen. */
static union {
	int pid;
	char page[SF_PAGE];
} owner __attribute__((aligned(SF_PAGE)));

void sf_process_init(void)
{
	sf_sys3(__NR_madvise, &owner, sizeof(owner), MADV_WIPEONFORK);
	owner.pid = sf_getpid();
}

bool sf_process_is_ours(void)
{
	int pid = sf_getpid();

	if (owner.pid == 0) {
		owner.pid = pid;
		sf_inflight_forget();
	}
	return owner.pid == pid;
}
