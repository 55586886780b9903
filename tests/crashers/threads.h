#pragma once

#include <pthread.h>

/* pthread_create() that ends the process with 100 when it fails. */
void start(pthread_t *ret, const pthread_attr_t *attr, void *(*routine)(void *),
	   void *argument);
