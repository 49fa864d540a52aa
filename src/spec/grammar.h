/* SPDX-License-Identifier: MIT
 *
 * The grammars of the probe part of a spec, and what they share. Internal to src/spec.
 *
 * Each tl_parse_… function starts at the first character of the probe part and fills module, symbol, offset, where and
 * so on; it leaves the cursor at the blank or the end behind it. They return 0, or a negative errno with the column
 * told. For threads and signals spec.h holds here too.
 */
#ifndef TRAPLINE_SPEC_GRAMMAR_H
#define TRAPLINE_SPEC_GRAMMAR_H

#include "spec/scan.h"
#include "spec/spec.h"

int tl_parse_uprobe_events(struct tl_scan *scan, struct tl_spec *spec);
int tl_parse_bpftrace(struct tl_scan *scan, struct tl_spec *spec);
int tl_parse_dtrace(struct tl_scan *scan, struct tl_spec *spec);
int tl_parse_frida(struct tl_scan *scan, struct tl_spec *spec);
int tl_parse_bare(struct tl_scan *scan, struct tl_spec *spec);

/* Does the text at the cursor have that shape? Frida's and the bare shape take what these leave. */
bool tl_is_uprobe_events(const struct tl_scan *scan);
bool tl_is_bpftrace(const struct tl_scan *scan);
bool tl_is_dtrace(const struct tl_scan *scan);

/* The module [start, end). "*" is every module. */
int tl_parse_module(struct tl_scan *scan, size_t start, size_t end, const char *what, struct tl_spec *spec);
/* The place from the cursor up to `end`: SYMBOL, SYMBOL+OFFSET, or a number, which then means `number_is`; with
 * %return behind it where the grammar has that. */
enum { TL_NO_NUMBER = -1 };
int tl_parse_place(struct tl_scan *scan, size_t end, int number_is, bool may_return, struct tl_spec *spec);
/* The symbol [start, end), a name or a glob. */
int tl_parse_symbol(struct tl_scan *scan, size_t start, size_t end, struct tl_spec *spec);
/* The last `c` in [start, end), or `end`. */
size_t tl_find_last(const struct tl_scan *scan, size_t start, size_t end, char c);

#endif
