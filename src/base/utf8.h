/* SPDX-License-Identifier: MIT */
#ifndef TRAPLINE_BASE_UTF8_H
#define TRAPLINE_BASE_UTF8_H

#include <stddef.h>

/* The length of the well-formed UTF-8 sequence at `s`, of which `available` bytes (at least 1) are there, or 0:
 * overlong forms, surrogates and what lies beyond U+10FFFF are not well-formed. Pure: safe in any thread and signal
 * handler. */
size_t tl_utf8_length(const unsigned char *s, size_t available);

#endif
