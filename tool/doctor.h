/* SPDX-License-Identifier: MIT
 *
 * What trapline doctor looks at.
 */
#ifndef TRAPLINE_DOCTOR_H
#define TRAPLINE_DOCTOR_H

#include <stdbool.h>

/* The verdict on one thing. */
struct finding {
    const char *name;
    bool ok;
    char found[160];
    char change[160]; /* what to do about a "no" */
};

/* What trapline watch needs. */
void check_kernel(struct finding *finding);
void check_watch_events(struct finding *finding);
void check_debug_registers(struct finding *finding);
void check_kernel_watches(struct finding *finding);
void check_kernel_names(struct finding *finding);
/* What the kernel has of its own, beside which probes live. */
void check_uprobes(struct finding *finding);

#endif
