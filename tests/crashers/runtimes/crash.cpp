// C++'s ways to die and to live: crash WAY.
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <pthread.h>
#include <semaphore.h>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

static volatile uintptr_t zero; // unknown to the optimizer
static volatile int sink;

[[gnu::noinline]] static void null_read()
{
	sink = *reinterpret_cast<volatile int *>(zero);
}

[[gnu::noinline]] static void throw_error()
{
	throw std::runtime_error("what the exception says");
}

static void uncaught()
{
	throw_error();
}

static void uncaught_in_thread()
{
	std::thread(throw_error).join();
}

[[gnu::noinline]] static void breaks_noexcept() noexcept
{
	throw_error();
}

static void own_terminate()
{
	std::set_terminate([] {
		std::fputs("the last words\n", stderr);
		std::_Exit(3);
	});
	throw_error();
}

// Exceptions in many threads: nothing of ours is in their way.
static void caught()
{
	std::vector<std::thread> threads;
	std::vector<int> counts(8);

	for (int &count : counts)
		threads.emplace_back([&count] {
			for (int i = 0; i < 1000; i++)
				try {
					throw_error();
				} catch (const std::runtime_error &) {
					count++;
				}
		});
	for (std::thread &thread : threads)
		thread.join();
	for (int count : counts)
		std::printf("caught: %d\n", count);
}

struct Said {
	const char *what;
	~Said()
	{
		std::puts(what);
	}
};

static sem_t waits;

static void *cancelled(void *)
{
	Said said{"unwound by the cancellation"};

	sem_post(&waits);
	for (;;)
		pause();
}

static void cancel()
{
	pthread_t thread;
	void *result;

	sem_init(&waits, 0, 0);
	pthread_create(&thread, nullptr, cancelled, nullptr);
	sem_wait(&waits);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	std::printf("cancelled: %d\n", result == PTHREAD_CANCELED);
}

static void *leaves(void *)
{
	Said said{"unwound by pthread_exit"};

	pthread_exit(nullptr);
}

static void thread_exit()
{
	pthread_t thread;

	pthread_create(&thread, nullptr, leaves, nullptr);
	pthread_join(thread, nullptr);
}

static void throwing_handler(int)
{
	throw std::runtime_error("a fault");
}

// -fnon-call-exceptions: an exception that leaves a signal handler is caught
// where the fault was, so the unwinder must get through the signal's frame.
static void thrown_by_handler(int flags, bool in_thread)
{
	struct sigaction action = {};
	auto body = [] {
		int count = 0;

		for (int i = 0; i < 100; i++)
			try {
				Said said{"unwound"};
				null_read();
			} catch (const std::runtime_error &) {
				count++;
			}
		std::printf("caught: %d\n", count);
	};

	action.sa_handler = throwing_handler;
	action.sa_flags = SA_NODEFER | flags;
	sigaction(SIGSEGV, &action, nullptr);
	if (in_thread)
		std::thread(body).join();
	else
		body();
}

int main(int, char **arguments)
{
	const std::string way = arguments[1];

	if (way == "uncaught")
		uncaught();
	else if (way == "uncaught_in_thread")
		uncaught_in_thread();
	else if (way == "breaks_noexcept")
		breaks_noexcept();
	else if (way == "own_terminate")
		own_terminate();
	else if (way == "caught")
		caught();
	else if (way == "cancel")
		cancel();
	else if (way == "thread_exit")
		thread_exit();
	else if (way == "thrown_by_handler")
		thrown_by_handler(0, false);
	else if (way == "thrown_by_handler_in_thread")
		thrown_by_handler(0, true);
	else if (way == "null_read")
		null_read();
	else
		return 99;
	return 0;
}
