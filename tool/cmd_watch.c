/* SPDX-License-Identifier: MIT
 *
 * trapline watch: who touches this memory.
 */
#include "commands.h"
#include "everywhere.h"
#include "session.h"

int cmd_watch(int argc, char **argv)
{
    struct options options;
    int status = options_read(argc, argv, OPTIONS_WATCH, &options);
    if (!status)
        status = options.everywhere ? everywhere_run(&options) : session_run(&options, WORK_WATCH);
    options_free(&options);
    return status < 0 ? EXIT_FINE : status;
}
