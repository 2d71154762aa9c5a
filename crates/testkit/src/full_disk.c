/* Preloaded into a program: while the file named by TESTKIT_FULL_DISK exists, whatever would make a regular file longer
 * fails with ENOSPC, as on a disk without a free block. Standard output and error are spared: they are the test's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int refused(int fd, off_t offset, size_t count)
{
    const char *flag = getenv("TESTKIT_FULL_DISK");
    struct stat file;
    int before = errno;
    if (fd <= 2 || !flag || access(flag, F_OK) != 0 || fstat(fd, &file) != 0 || !S_ISREG(file.st_mode)) {
        errno = before;
        return 0;
    }
    if (offset < 0)
        offset = (fcntl(fd, F_GETFL) & O_APPEND) ? file.st_size : lseek(fd, 0, SEEK_CUR);
    if (offset + (off_t)count <= file.st_size) {
        errno = before;
        return 0;
    }
    errno = ENOSPC;
    return 1;
}

static size_t total(const struct iovec *parts, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    return bytes;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t count)
{
    return refused(fd, -1, count) ? -1 : NEXT(write)(fd, data, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return refused(fd, -1, total(parts, count)) ? -1 : NEXT(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t offset)
{
    return refused(fd, offset, count) ? -1 : NEXT(pwrite)(fd, data, count, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset)
{
    return refused(fd, offset, count) ? -1 : NEXT(pwrite64)(fd, data, count, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return refused(fd, offset, total(parts, count)) ? -1 : NEXT(pwritev)(fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return refused(fd, offset, total(parts, count)) ? -1 : NEXT(pwritev64)(fd, parts, count, offset);
}

int posix_fallocate(int fd, off_t offset, off_t count)
{
    return refused(fd, offset, (size_t)count) ? ENOSPC : NEXT(posix_fallocate)(fd, offset, count);
}

int posix_fallocate64(int fd, off64_t offset, off64_t count)
{
    return refused(fd, offset, (size_t)count) ? ENOSPC : NEXT(posix_fallocate64)(fd, offset, count);
}

int fallocate(int fd, int mode, off_t offset, off_t count)
{
    return refused(fd, offset, (size_t)count) ? -1 : NEXT(fallocate)(fd, mode, offset, count);
}
