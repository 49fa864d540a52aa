/* SPDX-License-Identifier: MIT
 *
 * The chain of notifiers, hung on the signal broker.
 */
#ifndef TRAPLINE_LIB_NOTIFIERS_H
#define TRAPLINE_LIB_NOTIFIERS_H

#include <stdbool.h>

#include "trapline/notify.h"

struct tl_broker;
struct tl_notification;

void notifiers_attach(struct tl_broker *broker);

/* faults.c: the fault and break handlers of the probes. `regs` as the program would see them. Whether one has dealt
 * with it; then regs are what to go on with. */
bool faults_handle(const struct tl_notification *notification, const struct tl_notice_info *info, struct tl_regs *regs);

#endif
