/* stillframe-copy SRC DST_DIR: puts the library into an injected pod's volume.
 *
 * Static and without a libc, because the image of the init container holds
 * nothing else.  Copies to a temporary name and renames, so that no process
 * ever maps half a library.
 */

#include "sys.h"
#include "text.h"

#define STDERR 2
#define MODE   0755 /* executed by any user of the pod */

int main(int argc, char **argv);

static char buffer[65536];

static const struct {
	int number;
	char text[32];
} errors[] = {
	{ENOENT, "no such file or directory"},
	{EACCES, "permission denied"},
	{EPERM, "operation not permitted"},
	{ENOTDIR, "not a directory"},
	{ENOSPC, "no space left"},
	{EROFS, "read-only file system"},
};

/* Says what failed and why; returns the exit status. */
static int fail(const char *what, const char *path, long error)
{
	static char line[512] = "stillframe-copy: cannot ";
	const size_t size =
		sizeof(line) - 1; /* the last byte is the newline's */

	sf_append(line, size, what);
	sf_append(line, size, " ");
	sf_append(line, size, path);
	sf_append(line, size, ": errno ");
	sf_append_number(line, size, (uint64_t)-error);
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		if (errors[i].number == -error) {
			sf_append(line, size, ", ");
			sf_append(line, size, errors[i].text);
		}
	sf_append(line, sizeof(line), "\n");
	sf_sys3(__NR_write, STDERR, line, sf_strlen(line));
	return 1;
}

static const char *base_name(const char *path)
{
	const char *base = path;

	for (; *path != '\0'; path++)
		if (*path == '/')
			base = path + 1;
	return base;
}

static long copy(int from, int to)
{
	long got;

	while ((got = sf_sys3(__NR_read, from, buffer, sizeof(buffer))) > 0)
		for (long done = 0; done < got;) {
			long put = sf_sys3(__NR_write, to, buffer + done,
					   got - done);

			if (put < 0)
				return put;
			done += put;
		}
	return got;
}

static int install(const char *source, const char *directory)
{
	char temporary[256];
	const char *name = base_name(source);
	long error;
	int from = sf_open(AT_FDCWD, source, O_RDONLY, 0);
	int dir = sf_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0);
	int to;

	if (from < 0)
		return fail("read", source, from);
	if (dir < 0)
		return fail("open", directory, dir);
	sf_copy(temporary, sizeof(temporary), ".");
	sf_append(temporary, sizeof(temporary), name);
	/* A left-over of an init container that was restarted. */
	sf_sys3(__NR_unlinkat, dir, temporary, 0);
	to = sf_open(dir, temporary, O_WRONLY | O_CREAT | O_EXCL, MODE);
	if (to < 0)
		return fail("write into", directory, to);
	error = copy(from, to);
	if (!error)
		error = sf_sys2(__NR_fchmod, to, MODE); /* past the umask */
	if (!error)
		error = sf_sys4(__NR_renameat, dir, temporary, dir, name);
	if (error) {
		sf_sys3(__NR_unlinkat, dir, temporary, 0);
		return fail("write into", directory, error);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const char usage[] = "usage: stillframe-copy SRC DST_DIR\n";

	if (argc == 3)
		return install(argv[1], argv[2]);
	sf_sys3(__NR_write, STDERR, usage, sizeof(usage) - 1);
	return 2;
}
