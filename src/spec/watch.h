/* SPDX-License-Identifier: MIT
 *
 * Watch specs: from the text that people type or paste to one structure, and their filters to a program for the
 * runtime. Pure: it knows no process and no file.
 *
 *   [SCOPE:][FILE:]VARIABLE[+OFFSET]             counter, conf.limit, table[3].next, ns::counter, libc.so.6:environ,
 *                                                a.c:counter, EXE:a.c:counter, function::counter
 *   ADDRESS                                      0x601040
 *   mem:WHERE[/LENGTH][:ACCESS]                  as perf: WHERE is one of the above, ACCESS r, w, rw or x
 *   watchpoint:WHERE:LENGTH:ACCESS               as bpftrace
 *
 * and after any of them a filter: `if EXPR` over old, new, pid, tid and ip (where the program was when the hit was
 * seen: behind the instruction that accessed the memory). Any thread may do so with texts and specs of its own; memory
 * is allocated, so signal handlers may not.
 */
#ifndef TRAPLINE_SPEC_WATCH_H
#define TRAPLINE_SPEC_WATCH_H

#include "hit/program.h"
#include "symbol/type.h"
#include "symbol/variable.h"
#include "trapline/error.h"

/* The same bits as TL_ACCESS_R, _W, _X of src/hwbp/attr.h. */
enum { TL_WATCH_R = 1, TL_WATCH_W = 2, TL_WATCH_X = 4 };

struct tl_watch {
    char *text; /* the whole spec as given */
    char *name; /* what reports call it: WHERE */
    bool is_address;
    uint64_t addr;                  /* is_address */
    struct tl_variable_name symbol; /* not is_address; its columns are of `text`, its or_function is set where x was
                                       asked for */
    uint64_t offset;                /* bytes behind the variable's beginning */
    uint64_t length;                /* bytes; 0: the variable's own. Addresses without one get 4, as perf does it; an x
                                       watch has 0 */
    unsigned access;                /* TL_WATCH_…; w where nothing is said */
    size_t column;                  /* of WHERE */
    size_t filter_column;           /* of EXPR; 0: no filter */
};

/* Parse one spec. -EINVAL with error->column at what is wrong and error->text saying what was expected; -ENOTSUP (with
 * a column too) for what is understood but not done (pointers followed, functions' arguments); -ENOMEM. Show it with
 * tl_spec_complain. */
int tl_watch_parse(const char *text, struct tl_watch **watch, struct tl_error *error);
void tl_watch_free(struct tl_watch *watch); /* NULL is allowed */

/* The filter as a program for the runtime, for a value of that type (NULL: `length` bytes of no known type). A bit
 * field has neighbours in its bytes: with `changes_only`, hits that leave the field itself as it was are rejected.
 * *code and *strings are arrays to free(); *code is NULL where nothing has to be evaluated. The result passes
 * tl_program_verify. -EINVAL with a column of watch->text: old and new are no numbers of at most eight bytes, or there
 * is no value before and after (`has_values` false: an x watch, or events of all processors). -E2BIG, -ENOMEM. */
struct tl_watch_value {
    const struct tl_datatype *type; /* or NULL */
    uint64_t length;
    bool has_values, changes_only;
};
int tl_watch_compile(const struct tl_watch *watch, const struct tl_watch_value *value, struct tl_operation **code,
                     size_t *length, char **strings, size_t *strings_size, struct tl_error *error);

#endif
