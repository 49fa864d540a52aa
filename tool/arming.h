/* SPDX-License-Identifier: MIT
 *
 * The signal broker's part of placing: guards beside the probes, tables, the broker's memory. A program whose signals
 * cannot be taken over has its probes by jumps alone; why it cannot is kept, to be told.
 */
#ifndef TRAPLINE_ARMING_H
#define TRAPLINE_ARMING_H

#include "probe/guards.h"

struct placed;

/* Addresses in the target, and what is to be planned and mapped there. Zeroed at first. */
struct arming {
    bool refused;
    char why[200];
    bool looked; /* the guards are known */
    struct tl_guards guards;
    struct tl_site *sites; /* those of the selection, and guards, as planned */
    size_t site_count;
    size_t places; /* sites of the selection that are in the plan */
    uint64_t runtime, data, marker;
    size_t data_room;
    void *tables;
    size_t tables_size;
};

/* What follows is done in this order, again with each try to plan. 0 or -errno unless said otherwise. */

/* The sites to plan: the selection's, and guards unless arming was refused. */
int arming_sites(struct placed *placed);
/* How much address space runtime, data and marker take; then, where they are. */
uint64_t arming_room(const struct placed *placed);
void arming_place(struct placed *placed, uint64_t addr);
/* What the planner may do, of what the person allows. */
void arming_plan_options(const struct placed *placed, uint32_t tactics, struct tl_plan_options *plan);
/* The plan is made: what became of the selection's sites is noted there. False: a guard has no place; it is to have
 * another, or that is noted as the reason to refuse arming. Plan again. */
bool arming_planned(struct placed *placed, uint32_t tactics);
int arming_tables(struct placed *placed);
/* How many bytes are to stand at `data`. */
size_t arming_data_size(const struct arming *arming);
/* What is to stand at `data`, in a buffer of *size bytes to be freed; NULL: out of memory. */
uint8_t *arming_data(const struct placed *placed, size_t *size);

/* From here on this program's probes do without. */
void arming_refuse(struct placed *placed, const char *format, ...) __attribute__((format(printf, 2, 3)));
void arming_free(struct arming *arming);

#endif
