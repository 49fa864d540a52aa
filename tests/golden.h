/* SPDX-License-Identifier: MIT
 *
 * Golden files: a comment, then specs, each a line that begins with "> ", with what becomes of it behind.
 */
#ifndef TRAPLINE_TESTS_GOLDEN_H
#define TRAPLINE_TESTS_GOLDEN_H

#include <stdio.h>

/* The file as it should be: its comment and specs, with outcomes of today. To be freed. */
char *golden_made(const char *text, void (*print_outcome)(FILE *out, const char *spec));
/* The first line that differs; `who` goes before "expected". */
void golden_show_difference(const char *path, const char *who, const char *was, const char *is);

#endif
