/* SPDX-License-Identifier: MIT
 *
 * What is watched: the specs of a run, and what they mean in each of its programs.
 */
#ifndef TRAPLINE_WATCHES_H
#define TRAPLINE_WATCHES_H

#include "place.h"

#include "spec/watch.h"

/* Of a run. */
struct watches {
    const struct options *options;
    struct tl_watch **list;
    size_t count;
};

/* Of a program. */
struct watched {
    size_t spec; /* which of the run */
    struct tl_variable variable;
    const struct tl_datatype *type; /* of what is watched, or NULL; part of the variable's */
    struct tl_operation *code;      /* of the filter, or NULL */
    char *strings;
    pid_t tid;        /* whose variable it is, where it is thread-local… */
    uint64_t fs_base; /* …and where that thread's memory is */
    char *places;     /* lines that tell where each thread has it, or NULL; not to be watched then */
};

struct program_watches {
    struct place_watch place;
    const struct watches *specs;
    struct spec_fate *fates; /* by spec; NULL: each has to name something here */
    struct watched *list;
    size_t count;
    bool told;    /* what there is to say about them was said */
    bool is_lent; /* the list and the wishes are those of a fork parent */
};

/* 0, or an exit status; what is wrong was said. */
int watches_parse(struct watches *watches, const struct options *options);
void watches_free(struct watches *watches); /* a zeroed one is allowed */

/* Get ready for a program: `program` is what place_watches wants, in the end. */
void program_watches_begin(struct program_watches *program, const struct watches *specs, struct spec_fate *fates);
/* The same for a fork child of another program's, if that has its variables where its parent has them: its thread may
 * be another one than the parent's first. */
bool program_watches_fit(const struct program_watches *parent, const struct placed *child);
void program_watches_copy(struct program_watches *program, const struct program_watches *parent);
void program_watches_free(struct program_watches *program); /* a zeroed one is allowed */

/* Where a thread-local variable is (watched->variable, found already): sets its address, or watched->places. 0 or
 * -errno. */
int thread_variable_find(const struct tl_watch *spec, const struct placed *placed, struct watched *watched,
                         struct tl_error *error);

/* What to say where too few registers are free. */
void watches_no_room(const struct program_watches *program, char *text, size_t size);

#endif
