/* SPDX-License-Identifier: MIT
 *
 * cmocka with the headers that it wants before it.
 */
#ifndef TRAPLINE_TEST_CHECK_H
#define TRAPLINE_TEST_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#endif
