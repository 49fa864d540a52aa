/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

static bool has_no_reader(FILE *out)
{
    struct pollfd file = {.fd = fileno(out)};
    return poll(&file, 1, 0) == 1 && file.revents & (POLLERR | POLLHUP);
}

/* What failed while something was printed has left no errno, when it is asked for. */
int output_check(FILE *out, const char *name)
{
    static int first;
    errno = 0;
    if (!fflush(out) && !ferror(out))
        return 0;
    int error = errno ? errno : first ? first : EIO;
    if (has_no_reader(out))
        error = EPIPE;
    if (error != EPIPE && !first)
        complain("%s: %s", name ? name : "standard output", strerror(error));
    first = error;
    return -error;
}
