#include "init.h"

#include <stdbool.h>

#include "altstack.h"
#include "config.h"
#include "crash.h"
#include "dispositions.h"

void sf_init(void)
{
	static bool done;

	if (done)
		return;
	done = true;
	sf_config_load();
	if (sf_config.disabled)
		return;
	sf_altstack_init();
	sf_dispositions_install(sf_on_crash);
}

__attribute__((constructor)) static void construct(void)
{
	sf_init();
}
