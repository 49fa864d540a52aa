/* SPDX-License-Identifier: MIT
 *
 * Handlers in C in the test's own process: trampolines with hooks, lists of actions, records for threads.
 */
#ifndef TRAPLINE_TESTS_CALL_WORLD_H
#define TRAPLINE_TESTS_CALL_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "hit/call.h"

typedef uint64_t call_fn(uint64_t, uint64_t);

/* Once: a platform that reads memory with care and emulates ret, and records for so many threads. */
void call_world_make(size_t records);

/* Code: a hook for this index, then `body`. */
void *call_world_code(uint32_t index, const void *body, size_t size);
/* The same with a second hook, then what follows it. */
void *call_world_two(uint32_t index, const void *body, size_t size, uint32_t second, const void *rest,
                     size_t rest_size);
call_fn *call_world_function(void *code);
/* Room for code that is to be written by the test itself. */
uint8_t *call_world_room(const void *bytes, size_t size);

/* Put a list of copies of these actions into force (none: nothing), wait until what was there is quiet, and free it.
 * The address in it is 0x1000 + index. */
void call_world_list(uint32_t index, const struct tl_call_action *actions, size_t count);
/* A list whose post actions run behind an emulated ret. */
void call_world_list_at_ret(uint32_t index, const struct tl_call_action *actions, size_t count);

bool call_world_peek(uint64_t addr, uint64_t *word);
/* Make every thread of the process pass a barrier. */
void call_world_barrier(void);

#endif
