/* SPDX-License-Identifier: MIT
 *
 * Fetch arguments: `[NAME=]EXPRESSION[:TYPE]` in the words of the kernel's uprobe_events. Internal to src/spec.
 *
 * An expression is a chain: something that is at hand (a register, a constant, an address) and around it any number of
 * dereferences. `@ADDR` is an address and one dereference of offset 0, so only TL_FETCH_DEREF ever reads at an address
 * that the spec computes. Functions that return int return 0, or a negative errno with the column told. For threads
 * and signals spec.h holds here too.
 */
#ifndef TRAPLINE_SPEC_FETCH_H
#define TRAPLINE_SPEC_FETCH_H

#include "spec/scan.h"
#include "spec/spec.h"

enum tl_fetch_kind {
    TL_FETCH_REGISTER,    /* %ax */
    TL_FETCH_STACK,       /* $stack: the stack pointer */
    TL_FETCH_STACK_ENTRY, /* $stackN: imm = N */
    TL_FETCH_ARGUMENT,    /* $argN: imm = N, from 1 */
    TL_FETCH_RETVAL,      /* $retval */
    TL_FETCH_COMM,        /* $comm */
    TL_FETCH_IMMEDIATE,   /* \IMM; the ADDR of @ADDR */
    TL_FETCH_TEXT,        /* \"string" */
    TL_FETCH_FILE_OFFSET, /* the address of byte imm of the probed file */
    TL_FETCH_VARIABLE,    /* the address of symbol `name`, plus imm */
    TL_FETCH_DEREF        /* what lies imm bytes from the address that `inner` gives */
};

struct tl_register {
    uint8_t reg;   /* enum tl_reg */
    uint8_t size;  /* bytes */
    uint8_t shift; /* bits: 8 for %ah and its like */
};

struct tl_type {
    uint8_t size;             /* bytes: 1, 2, 4, 8 */
    uint8_t show;             /* enum tl_show */
    uint8_t bits, bit_offset; /* bits 0: not a bit field */
};

struct tl_fetch {
    uint8_t kind; /* enum tl_fetch_kind */
    struct tl_register reg;
    struct tl_type type; /* of the outermost expression only */
    size_t column;
    int64_t imm;
    char *name; /* VARIABLE's symbol, TEXT's text */
    struct tl_fetch *inner;
};

/* Longest name of an event or an argument, and deepest nesting of dereferences. */
enum { TL_EVENT_NAME_MAX = 63, TL_ARG_NAME_MAX = 31, TL_FETCH_DEPTH = 16 };

/* What a spec's probe allows its arguments to name. */
struct tl_fetch_place {
    bool is_return;
    bool is_inside; /* known not to be a function's entry */
};

/* Parse one argument at the cursor, up to the blank or the end after it; `index` counts from 0 and gives the default
 * name. */
int tl_fetch_arg_parse(struct tl_scan *scan, const struct tl_fetch_place *place, size_t index,
                       struct tl_fetch_arg *arg);
void tl_fetch_arg_free(struct tl_fetch_arg *arg);

/* The name of a register, after its %. */
bool tl_register_find(const char *name, size_t length, struct tl_register *reg);
/* A type at the cursor, after its colon. */
int tl_type_parse(struct tl_scan *scan, struct tl_type *type);

/* How often the argument reads the target's memory: 0 for registers and constants. */
unsigned tl_fetch_loads(const struct tl_fetch *fetch);

#endif
