#include "init.h"

#include <stdbool.h>

#include "altstack.h"
#include "config.h"
#include "death.h"
#include "dispositions.h"
#include "process.h"

void sf_init(void)
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

__attribute__((constructor)) static void construct(void)
{
	sf_init();
}
