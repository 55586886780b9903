/* Deaths that only C++ knows: crasher++ WAY. */
#include <cstdio>
#include <cstring>
#include <stdexcept>

static void throw_one()
{
	throw std::runtime_error("nobody catches this");
}

static void throw_in_noexcept() noexcept
{
	throw_one();
}

struct base {
	base()
	{
		call();
	}
	void call()
	{
		be_pure();
	}
	virtual void be_pure() = 0;
};

struct derived : base {
	void be_pure() override
	{
	}
};

static void uncaught_exception()
{
	throw_one();
}

static void noexcept_violation()
{
	throw_in_noexcept();
}

static void pure_virtual_call()
{
	derived();
}

static const struct {
	const char *name;
	void (*die)();
} ways[] = {
	{"uncaught_exception", uncaught_exception},
	{"noexcept_violation", noexcept_violation},
	{"pure_virtual_call", pure_virtual_call},
};

int main(int argc, char **argv)
{
	const char *chosen = argc > 1 ? argv[1] : "list";

	for (const auto &way : ways) {
		if (std::strcmp(chosen, "list") == 0)
			std::puts(way.name);
		else if (std::strcmp(chosen, way.name) == 0)
			way.die();
	}
	return std::strcmp(chosen, "list") == 0 ? 0 : 99;
}
