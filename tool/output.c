/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <string.h>

int output_check(FILE *out, const char *name)
{
    static bool said;
    errno = 0;
    if (!fflush(out) && !ferror(out))
        return 0;
    int error = errno ? errno : EIO;
    if (error != EPIPE && !said)
        complain("%s: %s", name ? name : "standard output", strerror(error));
    said |= error != EPIPE;
    return -error;
}
