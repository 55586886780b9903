/* A thread that crashes when its thread group's leader is a zombie. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile uintptr_t zero;

static int leader_is_zombie(void)
{
	char text[256];
	int fd = open("/proc/self/stat", O_RDONLY);
	ssize_t got = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[got > 0 ? got : 0] = '\0';
	return strstr(text, ") Z ") != NULL;
}

static void *crash(void *unused)
{
	(void)unused;
	while (!leader_is_zombie())
		usleep(1000);
	*(volatile int *)zero = 1;
	return NULL;
}

int main(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, crash, NULL);
	pthread_exit(NULL);
}
