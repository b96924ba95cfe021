/*
 * The programs of the benchmark. They are static and small, so that their own cost
 * does not matter.
 *
 *   programs                the container's program: ends at once, or with an
 *                           argument waits to be killed
 *   programs show FILE …    writes these files to standard output
 *   programs measure CMD …  runs CMD with the null device as its standard
 *                           streams and prints wall time and CPU time in
 *                           microseconds, peak memory in KiB and wait status
 *
 * The measuring process must be small, because a child begins with its parent's
 * peak memory (getrusage(2)).
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long microseconds(struct timeval time)
{
	return time.tv_sec * 1000000L + time.tv_usec;
}

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000L + time.tv_nsec / 1000;
}

static int measure(char **command)
{
	struct rusage used;
	int null = open("/dev/null", O_RDWR);
	int status;
	long start = now();
	pid_t child = vfork();

	if (child == 0) {
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execv(command[0], command);
		_exit(127);
	}
	if (child < 0 || wait4(child, &status, 0, &used) < 0)
		return 1;
	printf("%ld %ld %ld %d\n", now() - start,
	       microseconds(used.ru_utime) + microseconds(used.ru_stime),
	       used.ru_maxrss, status);
	return 0;
}

static int show(char **files)
{
	char buffer[4096];
	ssize_t length;

	for (; *files; files++) {
		int file = open(*files, O_RDONLY);

		while ((length = read(file, buffer, sizeof(buffer))) > 0)
			if (write(1, buffer, length) != length)
				return 1;
		if (length < 0)
			return 1;
		close(file);
	}
	return 0;
}

int main(int count, char **words)
{
	if (count > 2 && strcmp(words[1], "measure") == 0)
		return measure(words + 2);
	if (count > 2 && strcmp(words[1], "show") == 0)
		return show(words + 2);
	if (count > 1)
		pause();
	return 0;
}
