/* SPDX-License-Identifier: MIT
 *
 * trapline watch -a: kernel memory, on all processors.
 */
#ifndef TRAPLINE_EVERYWHERE_H
#define TRAPLINE_EVERYWHERE_H

#include "options.h"

/* The whole command. Returns the exit status. */
int everywhere_run(const struct options *options);

#endif
