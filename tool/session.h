/* SPDX-License-Identifier: MIT
 *
 * What trace, count and watch have in common: from the command line to probes or watches that are in place, the wait,
 * and the way out.
 */
#ifndef TRAPLINE_SESSION_H
#define TRAPLINE_SESSION_H

#include "report.h"

#include <signal.h>

/* From here on the signals that mean "that is enough" are noted: session_interrupted says which. */
void session_catch_signals(void);
extern volatile sig_atomic_t session_interrupted;

/* Run the whole command. Returns the exit status. */
int session_run(const struct options *options, enum work work);

#endif
