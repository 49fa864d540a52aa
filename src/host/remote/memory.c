/* SPDX-License-Identifier: MIT
 *
 * The target's memory through /proc/PID/mem, which minds no page protection: a write to private text makes the page the
 * target's own. The descriptor belongs to the address space of the moment it was opened; after an exec it reads
 * nothing.
 */
#include "host/remote/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int tl_mem_open(struct tl_remote *r)
{
    pid_t task = tl_live_task(r->pid);
    if (task == 0)
        return -ESRCH;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", task);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    if (r->mem >= 0)
        close(r->mem);
    r->mem = fd;
    return 0;
}

int tl_mem_read(struct tl_remote *r, uint64_t addr, void *bytes, size_t size)
{
    if (r->mem < 0)
        return -ESRCH;
    if (addr > INT64_MAX - size)
        return -EFAULT;
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(r->mem, (char *)bytes + done, size - done, (off_t)(addr + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? -ESRCH : -EFAULT;
        done += (size_t)n;
    }
    return 0;
}

int tl_mem_write(struct tl_remote *r, uint64_t addr, const void *bytes, size_t size)
{
    if (r->mem < 0)
        return -ESRCH;
    if (addr > INT64_MAX - size)
        return -EFAULT;
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(r->mem, (const char *)bytes + done, size - done, (off_t)(addr + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? -ESRCH : -EFAULT;
        done += (size_t)n;
    }
    return 0;
}

int tl_remote_read(struct tl_remote *r, uint64_t addr, void *bytes, size_t size)
{
    return tl_mem_read(r, addr, bytes, size);
}
