/* SPDX-License-Identifier: MIT
 *
 * What trace, count and watch have in common: from the command line to probes or watches that are in place, the wait,
 * and the way out.
 */
#ifndef TRAPLINE_SESSION_H
#define TRAPLINE_SESSION_H

#include "report.h"

/* Run the whole command. Returns the exit status. */
int session_run(const struct options *options, enum work work);

#endif
