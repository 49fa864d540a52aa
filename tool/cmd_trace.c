/* SPDX-License-Identifier: MIT
 *
 * trapline trace: a line a hit.
 */
#include "commands.h"
#include "session.h"

int cmd_trace(int argc, char **argv)
{
    struct options options;
    int status = options_read(argc, argv, OPTIONS_PROBE, &options);
    if (!status)
        status = session_run(&options, WORK_TRACE);
    options_free(&options);
    return status < 0 ? EXIT_FINE : status;
}
