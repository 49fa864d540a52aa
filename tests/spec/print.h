/* SPDX-License-Identifier: MIT
 *
 * Parsed specs as text again: in one canonical spelling that parses to the same, and as a listing for golden files.
 */
#ifndef TRAPLINE_TEST_PRINT_H
#define TRAPLINE_TEST_PRINT_H

#include <stdio.h>

#include "spec/spec.h"

/* A spec that means the same, with every default written out and every operator in parentheses. */
void print_spec(FILE *out, const struct tl_spec *spec);
/* Every field, a line each, and the program. */
void print_listing(FILE *out, const struct tl_spec *spec);
/* What a command would show for this text: the listing, or the complaint. */
void print_outcome(FILE *out, const char *text);

#endif
