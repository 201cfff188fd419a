/* A disk that is slow, or hangs, for the processes it is preloaded into.
 *
 * HALITE_DISK_DIR      only files below this directory lie on it
 * HALITE_DISK_SHARED   16 bytes, mapped by all processes that share the disk: when it is free again (nanoseconds of the monotonic clock),
 *                      and its bandwidth (bytes a second, 0: as fast as it is)
 * HALITE_DISK_HANG     while this file exists, no call of the kind (s: syncs, r: reads) ends that is its first letter, to files whose path
 *                      contains the rest of it
 *
 * What is written takes its time when it is written: there is no page cache that could hide it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct disk {
	_Atomic uint64_t free_at_ns;
	_Atomic uint64_t bytes_per_s;
};

static struct disk *disk;
static const char *dir;
static const char *hang;

__attribute__((constructor)) static void attach(void)
{
	const char *shared = getenv("HALITE_DISK_SHARED");
	dir = getenv("HALITE_DISK_DIR");
	hang = getenv("HALITE_DISK_HANG");
	if (!shared || !dir)
		return;
	int fd = open(shared, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	void *map = mmap(NULL, sizeof(struct disk), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		disk = map;
}

/* The path behind a descriptor, if it lies on the disk. */
static int lies_on_it(int fd, char *path, size_t size)
{
	char link[64];
	if (!dir || fd <= 2)
		return 0;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t len = readlink(link, path, size - 1);
	if (len <= 0)
		return 0;
	path[len] = 0;
	return strncmp(path, dir, strlen(dir)) == 0;
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void pay(int fd, size_t bytes)
{
	char path[4096];
	if (!disk || !bytes)
		return;
	uint64_t rate = atomic_load(&disk->bytes_per_s);
	if (!rate || !lies_on_it(fd, path, sizeof path))
		return;
	uint64_t cost = (uint64_t)bytes * 1000000000u / rate;
	uint64_t next = atomic_load(&disk->free_at_ns), done;
	do {
		uint64_t now = now_ns();
		done = (next > now ? next : now) + cost;
	} while (!atomic_compare_exchange_weak(&disk->free_at_ns, &next, done));
	struct timespec until = { (time_t)(done / 1000000000u), (long)(done % 1000000000u) };
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

static void wait_while_it_hangs(char kind, int fd)
{
	char path[4096], which[256];
	if (!hang || access(hang, F_OK) || !lies_on_it(fd, path, sizeof path))
		return;
	for (;;) {
		int file = open(hang, O_RDONLY | O_CLOEXEC);
		if (file < 0)
			return;
		ssize_t len = syscall(SYS_read, file, which, sizeof which - 1);
		close(file);
		which[len > 0 ? len : 0] = 0;
		if (which[0] != kind || !strstr(path, which + 1))
			return;
		struct timespec pause = { 0, 20000000 };
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
}

static size_t bytes_of(const struct iovec *pieces, int count)
{
	size_t bytes = 0;
	for (int i = 0; i < count; i++)
		bytes += pieces[i].iov_len;
	return bytes;
}

ssize_t write(int fd, const void *bytes, size_t count)
{
	pay(fd, count);
	return syscall(SYS_write, fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at)
{
	pay(fd, count);
	return syscall(SYS_pwrite64, fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at)
{
	pay(fd, count);
	return syscall(SYS_pwrite64, fd, bytes, count, at);
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
	pay(fd, bytes_of(pieces, count));
	return syscall(SYS_writev, fd, pieces, count);
}

ssize_t pread(int fd, void *bytes, size_t count, off_t at)
{
	wait_while_it_hangs('r', fd);
	return syscall(SYS_pread64, fd, bytes, count, at);
}

ssize_t pread64(int fd, void *bytes, size_t count, off_t at)
{
	wait_while_it_hangs('r', fd);
	return syscall(SYS_pread64, fd, bytes, count, at);
}

int fsync(int fd)
{
	wait_while_it_hangs('s', fd);
	return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	wait_while_it_hangs('s', fd);
	return (int)syscall(SYS_fdatasync, fd);
}
