/* SPDX-License-Identifier: MIT
 *
 * Hits of watches, from the event to the line.
 */
#ifndef TRAPLINE_WATCH_HITS_H
#define TRAPLINE_WATCH_HITS_H

#include "report.h"

/* Show an event. False: it is not one that was asked for. */
bool watch_hits_show(struct source *source, const struct tl_record *record);
/* A program's watches have come to their end: add up what became of them. */
void watch_hits_end(struct source *source);
/* The tables: who it was, and what became of each watch. */
void watch_hits_finish(struct report *report);

#endif
