/* SPDX-License-Identifier: MIT
 *
 * The chain of notifiers, hung on the signal broker.
 */
#ifndef TRAPLINE_LIB_NOTIFIERS_H
#define TRAPLINE_LIB_NOTIFIERS_H

#include <stdbool.h>
#include <stdint.h>

#include "trapline/notify.h"

struct tl_broker;
struct tl_notification;

void notifiers_attach(struct tl_broker *broker);
void notifiers_forked(void); /* in the child */
bool notifiers_inside(void); /* this thread is in one */

void notifiers_wait(void); /* until no notifier reads what was replaced before this call */
/* To be waited for as a notifier is. Async-signal-safe. */
uint32_t *notifiers_read_begin(void);
void notifiers_read_end(uint32_t *reading);

/* faults.c: the fault and break handlers of the probes. `regs` as the program would see them. Whether one has dealt
 * with it; then regs are what to go on with. */
bool faults_handle(const struct tl_notification *notification, const struct tl_notice_info *info, struct tl_regs *regs);

#endif
