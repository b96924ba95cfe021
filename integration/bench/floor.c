/*
 * The kernel's floor: makes the benchmark's container (specification() in bundle.py) by
 * system calls alone, and cleans up after it.
 *
 *   floor ROOTFS [CGROUP …] -- PROGRAM [ARGUMENT …]
 *
 * CGROUP are the directories to make, one for each hierarchy. The program finds the mounts,
 * devices, namespaces, cgroups, capabilities and process limits that it finds in a runtime's
 * container; `run` compares what /proc shows. The floor omits a runtime's other work: reading
 * config.json, opening each path so that it cannot lead out of the root filesystem, limits and
 * device rules of the cgroup, the session keyring, the state for `delete` and other commands,
 * and protecting the runtime's own file and process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define HIERARCHIES 32
#define PLAIN (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static const struct {
	const char *type, *target, *data;
	unsigned long flags;
} mounts[] = {
	{"proc", "proc", NULL, 0},
	{"tmpfs", "dev", "mode=755,size=65536k", MS_NOSUID | MS_STRICTATIME},
	{"devpts", "dev/pts", "newinstance,ptmxmode=0666,mode=0620", MS_NOSUID | MS_NOEXEC},
	{"tmpfs", "dev/shm", "mode=1777,size=65536k", PLAIN},
	{"mqueue", "dev/mqueue", NULL, PLAIN},
	{"sysfs", "sys", NULL, PLAIN | MS_RDONLY},
};

static const struct {
	const char *path;
	int major, minor;
} devices[] = {
	{"dev/null", 1, 3}, {"dev/zero", 1, 5},	   {"dev/full", 1, 7},
	{"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
};

static const char *const links[][2] = {
	{"pts/ptmx", "dev/ptmx"},
	{"/proc/self/fd", "dev/fd"},
	{"/proc/self/fd/0", "dev/stdin"},
	{"/proc/self/fd/1", "dev/stdout"},
	{"/proc/self/fd/2", "dev/stderr"},
};

static const char *const readonly[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys"};
static const char *const masked_files[] = {
	"proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list", "proc/timer_stats",
	"proc/sched_debug",
};
static const char *const masked_directories[] = {
	"proc/acpi", "proc/asound", "proc/scsi", "sys/firmware",
};

#define EACH(at, list) (size_t at = 0; at < sizeof(list) / sizeof(*list); at++)

/* Ends the program where a call has failed, and returns its result. */
static long check(long result, const char *call)
{
	if (result < 0) {
		perror(call);
		exit(1);
	}
	return result;
}

/* The same for a call on a path that a kernel may not have. */
static int is_there(long result, const char *call)
{
	if (result < 0 && errno == ENOENT)
		return 0;
	check(result, call);
	return 1;
}

static void make_mounts(const char *rootfs)
{
	check(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "mount slave");
	check(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL), "mount rootfs");
	check(chdir(rootfs), "chdir");
	check(mount(NULL, ".", NULL, MS_PRIVATE, NULL), "mount private");
	umask(0);
	for EACH (at, mounts) {
		if (strchr(mounts[at].target, '/'))
			check(mkdir(mounts[at].target, 0755), mounts[at].target);
		check(mount(mounts[at].type, mounts[at].target, mounts[at].type, mounts[at].flags,
			    mounts[at].data), mounts[at].target);
	}
	for EACH (at, devices)
		check(mknod(devices[at].path, S_IFCHR | 0666,
			    makedev(devices[at].major, devices[at].minor)), devices[at].path);
	for EACH (at, links)
		check(symlink(links[at][0], links[at][1]), links[at][1]);
	umask(022);
}

static void pivot(void)
{
	check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	check(umount2(".", MNT_DETACH), "umount");
	check(chdir("/"), "chdir");
	check(mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), "mount read-only");
}

static void protect_paths(void)
{
	const char *mask = NULL;

	for EACH (at, readonly) {
		check(mount(readonly[at], readonly[at], NULL, MS_BIND | MS_REC, NULL), readonly[at]);
		check(mount(NULL, readonly[at], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL),
		      readonly[at]);
	}
	for EACH (at, masked_files)
		is_there(mount("dev/null", masked_files[at], NULL, MS_BIND, NULL), masked_files[at]);
	for EACH (at, masked_directories) {
		const char *path = masked_directories[at];

		if (mask)
			is_there(mount(mask, path, NULL, MS_BIND, NULL), path);
		else if (is_there(mount("tmpfs", path, "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1"), path))
			mask = path;
	}
}

static void drop_privileges(void)
{
	const __u32 kept = 1 << CAP_AUDIT_WRITE | 1 << CAP_KILL | 1 << CAP_NET_BIND_SERVICE;
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct sets[2] = {{kept, kept, 0}};
	struct rlimit files = {1024, 1024};

	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	check(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
	for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
		if (capability >= 32 || !(kept & 1u << capability))
			check(prctl(PR_CAPBSET_DROP, capability), "bounding set");
	check(syscall(SYS_capset, &header, sets), "capset");
}

static void loopback_up(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int inet = check(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");

	check(ioctl(inet, SIOCSIFFLAGS, &lo), "loopback");
	close(inet);
}

static void write_file(const char *directory, const char *name, const char *value)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	int file = check(open(path, O_WRONLY | O_CLOEXEC), path);
	check(write(file, value, strlen(value)), path);
	close(file);
}

/*
 * Makes the directories. A process is cloned into that of v2, whose descriptor this
 * returns; each of v1 has a file to write to.
 */
static int make_cgroups(char **cgroups, int count, int *tasks)
{
	int unified = -1;

	for (int at = 0; at < count; at++) {
		check(mkdir(cgroups[at], 0755), cgroups[at]);
		int directory = check(open(cgroups[at], O_DIRECTORY | O_CLOEXEC), cgroups[at]);
		tasks[at] = openat(directory, "tasks", O_WRONLY | O_CLOEXEC);
		if (tasks[at] < 0) {
			unified = directory;
			continue;
		}
		close(directory);
		/* Without both nobody can join. */
		if (strstr(cgroups[at], "/cpuset")) {
			write_file(cgroups[at], "cpuset.mems", "0");
			write_file(cgroups[at], "cpuset.cpus", "0");
		}
	}
	return unified;
}

int main(int count, char **words)
{
	char **cgroups = words + 2, **command = cgroups;
	int tasks[HIERARCHIES], hierarchies, unified, status;

	while (command < words + count && strcmp(*command, "--") != 0)
		command++;
	hierarchies = command++ - cgroups;
	if (command >= words + count || hierarchies > HIERARCHIES) {
		fprintf(stderr, "usage: floor ROOTFS [CGROUP ...] -- PROGRAM [ARGUMENT ...]\n");
		return 2;
	}
	unified = make_cgroups(cgroups, hierarchies, tasks);

	struct clone_args clone = {
		.flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET,
		.exit_signal = SIGCHLD,
	};
	if (unified >= 0) {
		clone.flags |= CLONE_INTO_CGROUP;
		clone.cgroup = unified;
	}
	pid_t child = check(syscall(SYS_clone3, &clone, sizeof(clone)), "clone3");
	if (child == 0) {
		for (int at = 0; at < hierarchies; at++)
			if (tasks[at] >= 0)
				check(write(tasks[at], "0", 1), cgroups[at]);
		check(setsid(), "setsid");
		loopback_up();
		make_mounts(words[1]);
		pivot();
		check(sethostname("bench", 5), "sethostname");
		protect_paths();
		drop_privileges();
		char *environment[] = {NULL};
		check(execve(command[0], command, environment), "execve");
	}
	check(waitpid(child, &status, 0), "waitpid");
	for (int at = 0; at < hierarchies; at++)
		check(rmdir(cgroups[at]), cgroups[at]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
