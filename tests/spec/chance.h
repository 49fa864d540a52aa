/* SPDX-License-Identifier: MIT
 *
 * Numbers that look random and are the same in every run.
 */
#ifndef TRAPLINE_TEST_CHANCE_H
#define TRAPLINE_TEST_CHANCE_H

#include <stdint.h>

struct chance {
    uint64_t state;
};

static inline uint64_t chance_bits(struct chance *chance)
{
    uint64_t x = chance->state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* 0 to n - 1 */
static inline unsigned chance_below(struct chance *chance, unsigned n)
{
    return (unsigned)(chance_bits(chance) % n);
}

#endif
