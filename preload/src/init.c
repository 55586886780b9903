#include "init.h"

#include <stdbool.h>

#include "altstack.h"
#include "config.h"
#include "death.h"
#include "dispositions.h"
#include "process.h"

static void init(void)
{
	static bool done;

	if (done)
		return;
	done = true;
	sf_config_load();
	if (sf_config.disabled)
		return;
	sf_process_init();
	sf_altstack_init();
	sf_death_init();
	sf_dispositions_install();
}

void sf_init(void)
{
	/* A sanitizer's runtime sets signal actions in .preinit_array, before
	 * glibc knows the environment: until then nothing is ours, and what was
	 * set is adopted later. */
	if (sf_config_readable())
		init();
}

__attribute__((constructor)) static void construct(void)
{
	init();
}
