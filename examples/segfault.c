/*
 * A small HTTP service with a bug: GET /crash reads a header that nobody sent.
 * GET /abort and GET /trap die in other ways; everything else answers "ok".
 *
 * usage: segfault [PORT]     (8080; 0 takes a free one and says which)
 *
 * Three threads: two serve, the first one waits for SIGTERM.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define WORKERS	      2
#define REQUEST_BYTES 4096

struct header {
	const char *name;
	size_t name_length;
	const char *value;
	size_t value_length;
};

/* Fills in the header called name; NULL if the request has none. */
static const struct header *find_header(const char *request, const char *name,
					struct header *header)
{
	const char *line = strcasestr(request, name);

	if (!line)
		return NULL;
	header->name = line;
	header->name_length = strlen(name);
	header->value = line + header->name_length;
	header->value_length = strcspn(header->value, "\r\n");
	return header;
}

/* The number in a header. The bug: a missing header is not expected here. */
static __attribute__((noinline)) long parse_header(const struct header *header)
{
	const char *value = header->value;

	return strtol(value, NULL, 10);
}

static __attribute__((noinline)) long answer(const char *request)
{
	struct header header;

	if (!strncmp(request, "GET /crash ", 11))
		return parse_header(
			find_header(request, "\nX-Limit:", &header));
	if (!strncmp(request, "GET /abort ", 11))
		abort();
	if (!strncmp(request, "GET /trap ", 10))
#if defined(__x86_64__)
		__asm__ volatile("int3");
#else
		__asm__ volatile("brk #0");
#endif
	return 0;
}

/* Reads up to the end of the headers; false if the client gave up first. */
static bool read_request(int client, char *request)
{
	size_t length = 0;

	while (length < REQUEST_BYTES - 1) {
		ssize_t n = recv(client, request + length,
				 REQUEST_BYTES - 1 - length, 0);
		if (n <= 0)
			return false;
		length += (size_t)n;
		request[length] = '\0';
		if (strstr(request, "\r\n\r\n"))
			return true;
	}
	return false;
}

static void *serve(void *argument)
{
	static const char ok[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n"
				 "Content-Type: text/plain\r\n"
				 "Content-Length: 3\r\n\r\nok\n";
	const struct timeval patience = {.tv_sec = 5};
	int listener = *(const int *)argument;
	char request[REQUEST_BYTES];

	for (;;) {
		int client = accept(listener, NULL, NULL);

		if (client < 0)
			continue;
		setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience,
			   sizeof(patience));
		if (read_request(client, request)) {
			answer(request);
			send(client, ok, sizeof(ok) - 1, MSG_NOSIGNAL);
		}
		close(client);
	}
	return NULL;
}

static int listen_on(in_port_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(port)};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (listener < 0)
		return -1;
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener, 16) ||
	    getsockname(listener, (struct sockaddr *)&address, &length))
		return -1;
	printf("listening on port %d\n", ntohs(address.sin_port));
	fflush(stdout);
	return listener;
}

int main(int argc, char **argv)
{
	int port = argc > 1 ? atoi(argv[1]) : 8080;
	int listener, signal_number;
	sigset_t stop;

	/* As PID 1 of a container, SIGTERM is ignored unless somebody asks. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	pthread_sigmask(SIG_BLOCK, &stop, NULL);

	listener = listen_on((in_port_t)port);
	if (listener < 0) {
		perror("segfault: cannot listen");
		return 1;
	}
	for (int i = 0; i < WORKERS; i++) {
		pthread_t worker;
		char name[16];

		if (pthread_create(&worker, NULL, serve, &listener)) {
			fputs("segfault: cannot start a thread\n", stderr);
			return 1;
		}
		snprintf(name, sizeof(name), "worker-%d", i);
		pthread_setname_np(worker, name);
	}
	sigwait(&stop, &signal_number);
	return 0;
}
