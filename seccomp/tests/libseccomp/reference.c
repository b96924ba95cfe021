/* Compiles filters with libseccomp, for tests to compare with. Reads commands
 * from standard input, one a line, and answers some of them with a line:
 *
 *   filter ACTION OPTIMIZE            begin a filter
 *   arch TOKEN                        add an architecture
 *   rule ACTION NAME [INDEX OP A B]…  add a rule
 *   export    answer "program HEX…" (code jt jf k) or "error ERRNO"
 *   number TOKEN NAME                 answer the call's number, or -1
 *   time                              answer the nanoseconds since `filter`
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static scmp_filter_ctx filter;
static int failed;
static struct timespec begun;

/* With some rules, libseccomp 2.5.4 loops forever: after five seconds, abandon
 * the filter and leak its memory. */
static sigjmp_buf back;

static void give_up(int signal)
{
	siglongjmp(back, signal);
}

static void note(int rc)
{
	if (rc < 0 && rc != -EEXIST && !failed)
		failed = rc;
}

static void begin(char *rest)
{
	uint32_t action, optimize;

	if (filter)
		seccomp_release(filter);
	failed = 0;
	sscanf(rest, "%" SCNx32 " %" SCNu32, &action, &optimize);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	filter = seccomp_init(action);
	if (!filter)
		failed = -EINVAL;
	else if (optimize)
		note(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, optimize));
}

static void rule(char *rest)
{
	struct scmp_arg_cmp args[6];
	unsigned int count = 0, index;
	uint32_t action;
	int op, used, number;
	char name[64];
	uint64_t a, b;

	sscanf(rest, "%" SCNx32 " %63s%n", &action, name, &used);
	rest += used;
	while (count < 6 && sscanf(rest, "%u %d %" SCNx64 " %" SCNx64 "%n", &index, &op, &a, &b, &used) == 4) {
		args[count++] = (struct scmp_arg_cmp){ index, op, a, b };
		rest += used;
	}
	number = seccomp_syscall_resolve_name(name);
	if (number == __NR_SCMP_ERROR || failed)
		return;
	if (sigsetjmp(back, 1)) {
		failed = -ETIMEDOUT;
		filter = NULL;
		return;
	}
	alarm(5);
	number = seccomp_rule_add_array(filter, action, number, count, args);
	alarm(0);
	if (number < 0)
		failed = number;
}

static void export(void)
{
	static struct sock_filter program[65536];
	int file;
	ssize_t size, at;

	if (failed) {
		printf("error %d\n", -failed);
		return;
	}
	file = memfd_create("program", 0);
	if (sigsetjmp(back, 1)) {
		failed = -ETIMEDOUT;
		filter = NULL;
	} else {
		alarm(5);
		note(seccomp_export_bpf(filter, file));
		alarm(0);
	}
	if (failed) {
		printf("error %d\n", -failed);
	} else {
		size = pread(file, program, sizeof(program), 0) / sizeof(program[0]);
		printf("program");
		for (at = 0; at < size; at++)
			printf(" %x:%x:%x:%" PRIx32, program[at].code, program[at].jt,
			       program[at].jf, program[at].k);
		printf("\n");
	}
	close(file);
}

int main(void)
{
	static char line[65536];
	char name[64];
	struct timespec now;
	uint32_t token;

	signal(SIGALRM, give_up);
	while (fgets(line, sizeof(line), stdin)) {
		char *rest = strchr(line, ' ');

		if (!rest)
			rest = line + strlen(line);
		if (!strncmp(line, "filter ", 7)) {
			begin(rest);
		} else if (!strncmp(line, "arch ", 5)) {
			sscanf(rest, "%" SCNx32, &token);
			if (filter)
				note(seccomp_arch_add(filter, token));
		} else if (!strncmp(line, "rule ", 5)) {
			rule(rest);
		} else if (!strncmp(line, "export", 6)) {
			export();
		} else if (!strncmp(line, "number ", 7)) {
			sscanf(rest, "%" SCNx32 " %63s", &token, name);
			printf("%d\n", seccomp_syscall_resolve_name_arch(token, name));
		} else if (!strncmp(line, "time", 4)) {
			clock_gettime(CLOCK_MONOTONIC, &now);
			printf("%lld\n", (now.tv_sec - begun.tv_sec) * 1000000000ll +
						 now.tv_nsec - begun.tv_nsec);
		}
		fflush(stdout);
	}
	return 0;
}
