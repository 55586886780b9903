/* A node addon that dies while it is loaded. */
#include <stdint.h>

static volatile uintptr_t zero; /* unknown to the optimizer */

__attribute__((noinline)) static void addon_null_write(void)
{
	*(volatile int *)zero = 1;
}

/* The entry of Node-API's modules; its two arguments are handles. */
void *napi_register_module_v1(void *env, void *exports)
{
	(void)env;
	addon_null_write();
	return exports;
}
