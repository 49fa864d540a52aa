/* SPDX-License-Identifier: MIT
 *
 * Random specs that are valid, and random expressions whose value is known.
 */
#ifndef TRAPLINE_TEST_RANDOM_SPEC_H
#define TRAPLINE_TEST_RANDOM_SPEC_H

#include <stdbool.h>
#include <stdio.h>

#include "chance.h"

/* Write a spec of any shape, with arguments and perhaps a filter. */
void random_spec(FILE *out, struct chance *chance);

/* Write an expression over constants with no more parentheses than C needs, and say what it comes to. It never divides
 * by zero. */
struct random_value {
    uint64_t bits;
    bool is_unsigned;
};
struct random_value random_expression(FILE *out, struct chance *chance, unsigned depth);

#endif
