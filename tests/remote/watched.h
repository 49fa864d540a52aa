/* SPDX-License-Identifier: MIT
 *
 * A target with the broker armed and cells of it watched: see targets/storm.c.
 */
#ifndef TESTS_REMOTE_WATCHED_H
#define TESTS_REMOTE_WATCHED_H

#include "armed.h"
#include "host/remote/watch.h"

/* The cell that all threads write. */
enum { CELL_OF_ALL = PROGRESS_THREADS };

struct watched {
    struct armed armed;
    struct tl_watching *watching;
    struct tl_watch_table *table;
    struct tl_watching_room room;
    struct tl_error error;
};

/* Arm the broker, with a table in which nothing is watched yet. */
void watched_arm(struct watched *w, struct target *t);
uint32_t watched_add(struct watched *w, struct target *t, unsigned cell, uint8_t access); /* a spot: its number */
int watched_begin(struct watched *w, bool multiplex);                                     /* as tl_watching_begin */
void watched_end(struct watched *w);   /* no register is set any more; counts can be asked for */
void watched_leave(struct watched *w); /* all is taken out */

uint64_t cell_of(struct watched *w, struct target *t, unsigned cell); /* what it holds */
/* From here on this process may not open perf events, or may not have more descriptors than `most`. */
void forbid_events(void);
void forbid_descriptors(unsigned most);

#endif
