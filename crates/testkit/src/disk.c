/* Makes the disk of one process full while a file exists: preloaded into servers and programs under test.
 *
 * A write that would grow a file below TESTKIT_DISK fails with ENOSPC as long as TESTKIT_DISK_FULL is there. Writes inside
 * of what a file has already succeed, as they do on a real disk that is full. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int grows(int fd, off_t offset, size_t bytes)
{
    const char *flag = getenv("TESTKIT_DISK_FULL");
    const char *below = getenv("TESTKIT_DISK");
    char link[64], path[PATH_MAX];
    struct stat file;
    int before = errno, full = 0;

    if (flag && below && access(flag, F_OK) == 0 && fstat(fd, &file) == 0 && S_ISREG(file.st_mode)) {
        ssize_t length;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        length = readlink(link, path, sizeof path - 1);
        if (length > 0) {
            path[length] = 0;
            if (offset < 0)
                offset = lseek(fd, 0, SEEK_CUR);
            full = strncmp(path, below, strlen(below)) == 0 && offset + (off_t)bytes > file.st_size;
        }
    }
    errno = before;
    return full;
}

static size_t total(const struct iovec *parts, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    return bytes;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define REFUSE_IF_FULL(fd, offset, bytes) \
    if (grows(fd, offset, bytes)) {       \
        errno = ENOSPC;                   \
        return -1;                        \
    }

ssize_t write(int fd, const void *from, size_t bytes)
{
    REFUSE_IF_FULL(fd, -1, bytes);
    return NEXT(write)(fd, from, bytes);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REFUSE_IF_FULL(fd, -1, total(parts, count));
    return NEXT(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *from, size_t bytes, off_t offset)
{
    REFUSE_IF_FULL(fd, offset, bytes);
    return NEXT(pwrite)(fd, from, bytes, offset);
}

ssize_t pwrite64(int fd, const void *from, size_t bytes, off64_t offset)
{
    REFUSE_IF_FULL(fd, offset, bytes);
    return NEXT(pwrite64)(fd, from, bytes, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    REFUSE_IF_FULL(fd, offset, total(parts, count));
    return NEXT(pwritev)(fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    REFUSE_IF_FULL(fd, offset, total(parts, count));
    return NEXT(pwritev64)(fd, parts, count, offset);
}

int posix_fallocate(int fd, off_t offset, off_t bytes)
{
    return grows(fd, offset, (size_t)bytes) ? ENOSPC : NEXT(posix_fallocate)(fd, offset, bytes);
}

int posix_fallocate64(int fd, off64_t offset, off64_t bytes)
{
    return grows(fd, offset, (size_t)bytes) ? ENOSPC : NEXT(posix_fallocate64)(fd, offset, bytes);
}
