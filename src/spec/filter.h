/* SPDX-License-Identifier: MIT
 *
 * Filters: expressions as in C over names that the caller knows. Internal to the tool: probe specs use it for the names
 * of their arguments, watch specs for `old` and `new`.
 *
 * Numbers are 64 bits wide. As in C, an operation on two numbers is unsigned where one of them is: names of type u64
 * and x64, and constants that do not fit in the signed range or end in u. Narrower unsigned values are signed numbers
 * that happen not to be negative (which is what C's promotion to long does).
 *
 * What could not be read (a fault) makes a comparison false and so, on its own, rejects the hit. Functions that return
 * int return 0, or a negative errno with the column told. For threads and signals spec.h holds here too.
 */
#ifndef TRAPLINE_SPEC_FILTER_H
#define TRAPLINE_SPEC_FILTER_H

#include "hit/program.h"
#include "spec/scan.h"

/* What a name in an expression stands for. */
enum tl_name_kind {
    TL_NAME_NUMBER,
    TL_NAME_STRING,
    TL_NAME_PID,
    TL_NAME_TID,
    TL_NAME_IP,
    TL_NAME_OLD,
    TL_NAME_NEW,
    TL_NAME_CONSTANT
};

/* How the number in a watched place is to be read. */
struct tl_field {
    uint8_t size;             /* bytes: 1, 2, 4, 8 */
    uint8_t bits, bit_offset; /* bits 0: not a bit field */
    bool is_signed;
};

struct tl_name {
    enum tl_name_kind kind;
    uint8_t slot;          /* NUMBER, STRING: the slot of the event that holds it */
    bool is_unsigned;      /* NUMBER, OLD, NEW, CONSTANT: all 64 bits of an unsigned value */
    struct tl_field field; /* OLD, NEW */
    int64_t imm;           /* CONSTANT */
};

struct tl_names {
    /* 0; -ENOENT for an unknown name; -ENOTSUP with *why (a constant text) for one that cannot be filtered. */
    int (*find)(void *context, const char *name, size_t length, struct tl_name *found, const char **why);
    void *context;
    const char *known; /* what to say that was expected: "a name such as size, pid or tid" */
};

enum tl_expr_kind {
    TL_EXPR_NUMBER,  /* imm */
    TL_EXPR_SLOT,    /* a number in a slot */
    TL_EXPR_STRING,  /* a string in a slot; only below a MATCH */
    TL_EXPR_TEXT,    /* a constant string; only below a MATCH */
    TL_EXPR_TASK,    /* op is TL_OP_PID, TL_OP_TID, or TL_OP_REG of the register `slot` */
    TL_EXPR_WATCHED, /* op is TL_OP_OLD or TL_OP_NEW, to be read as `field` says */
    TL_EXPR_UNARY,   /* op of left */
    TL_EXPR_BINARY,  /* left op right */
    TL_EXPR_AND,     /* left && right */
    TL_EXPR_OR,      /* left || right */
    TL_EXPR_MATCH    /* slot against text: op is TL_OP_EQ, TL_OP_NE or TL_OP_GLOB */
};

struct tl_expr {
    uint8_t kind; /* enum tl_expr_kind */
    uint8_t op;   /* enum tl_op */
    uint8_t slot;
    uint8_t stack; /* entries of the machine's stack that evaluating it takes */
    bool is_unsigned;
    uint32_t slots; /* bit n: slot n is read */
    struct tl_field field;
    size_t column;
    int64_t imm;
    char *text;
    struct tl_expr *left, *right;
};

struct tl_filter {
    struct tl_expr *root;
};

/* Deepest nesting of parentheses and unary operators. */
enum { TL_FILTER_DEPTH = 64 };

/* Parse the expression at the cursor, up to the end of the text. */
int tl_filter_parse(struct tl_scan *scan, const struct tl_names *names, struct tl_filter **filter);
void tl_filter_free(struct tl_filter *filter); /* NULL is allowed */

#endif
