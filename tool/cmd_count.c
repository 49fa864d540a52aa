/* SPDX-License-Identifier: MIT
 *
 * trapline count: how often each was hit, as a table at the end.
 */
#include "commands.h"
#include "session.h"

int cmd_count(int argc, char **argv)
{
    struct options options;
    int status = options_read(argc, argv, OPTIONS_PROBE | OPTIONS_COUNT, &options);
    if (!status)
        status = session_run(&options, WORK_COUNT);
    options_free(&options);
    return status < 0 ? EXIT_FINE : status;
}
