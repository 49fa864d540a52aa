/* SPDX-License-Identifier: MIT */
#ifndef TRAPLINE_TESTS_LIB_MANY_H
#define TRAPLINE_TESTS_LIB_MANY_H

typedef unsigned long many_function(unsigned long n);
extern many_function *const many[];
extern const unsigned many_count;

#endif
