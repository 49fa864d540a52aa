/* SPDX-License-Identifier: MIT
 *
 * Running programs of the byte code, and what they leave in slot 5.
 */
#ifndef TRAPLINE_TESTS_PROGRAM_H
#define TRAPLINE_TESTS_PROGRAM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "hit/runtime.h"
#include "world.h"

extern struct world program_world;
extern struct tl_hit program_hit; /* after a run */
extern uint64_t program_fs_base;  /* of the thread that runs */
extern const struct tl_watched *program_watched;

/* Constants of all programs, at these offsets. */
enum { EMPTY = 0, ABC = 1, A_STAR_C = 5, BRACKET = 9 };

/* Register i of a run is 1000 + i, the thread 77. */
int program_setup(void **unused);
int program_teardown(void **unused);

bool program_is_valid(const struct tl_operation *code, size_t length);
/* Run a program, which has to be one that the runtime may be given, from an empty event. */
bool program_run(const struct tl_operation *code, size_t length);

#define OP(name, ...)                                                                                                  \
    (struct tl_operation)                                                                                              \
    {                                                                                                                  \
        .op = TL_OP_##name, ##__VA_ARGS__                                                                              \
    }
#define IMM(value) OP(IMM, .imm = (int64_t)(value))
#define AT(pointer) IMM((uintptr_t)(pointer))
#define BAD IMM(1), IMM(0), OP(DIV)
#define RUN(...)                                                                                                       \
    program_run((const struct tl_operation[]){__VA_ARGS__},                                                            \
                sizeof((const struct tl_operation[]){__VA_ARGS__}) / sizeof(struct tl_operation))

/* The operations leave one value: it is as expected, or faulted. Slots that they stored before are `others`. */
#define GIVES_BESIDE(others, expected, ...)                                                                            \
    do {                                                                                                               \
        assert_true(RUN(__VA_ARGS__, OP(STORE, .a = 5), OP(END)));                                                     \
        assert_int_equal(program_hit.slots, (others) | 1ull << 5);                                                     \
        assert_int_equal(program_hit.lane->slots[5], (uint64_t)(expected));                                            \
    } while (0)
#define GIVES(expected, ...) GIVES_BESIDE(0, expected, __VA_ARGS__)
#define FAULTS(...)                                                                                                    \
    do {                                                                                                               \
        assert_true(RUN(__VA_ARGS__, OP(STORE, .a = 5), OP(END)));                                                     \
        assert_int_equal(program_hit.slots, 1ull << 37);                                                               \
    } while (0)

#endif
