#include "application.h"

#include "config.h"
#include "init.h"
#include "places.h"

int sf_application_ready(void)
{
	sf_init(); /* we may be called by constructors that run before ours */
	if (sf_config.disabled)
		return STILLFRAME_ABSENT;
	return sf_places_frozen() ? STILLFRAME_BUSY : 0;
}

int sf_application_text(char *ret, size_t size, const char *text)
{
	size_t i = 0;

	for (; i < size && text[i] != '\0'; i++)
		ret[i] = text[i];
	if (i == size)
		return STILLFRAME_TOO_LONG;
	for (; i < size; i++)
		ret[i] = '\0';
	return 0;
}
