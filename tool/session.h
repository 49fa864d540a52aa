/* SPDX-License-Identifier: MIT
 *
 * What trace and count have in common: from the command line to probes that are in place, the wait, and the way out.
 */
#ifndef TRAPLINE_SESSION_H
#define TRAPLINE_SESSION_H

#include "options.h"

/* Run the whole command. Returns the exit status. */
int session_run(const struct options *options, bool count);

#endif
