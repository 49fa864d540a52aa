/* SPDX-License-Identifier: MIT
 *
 * Types of variables, and their values as text. A type here is a tree of our own, bounded in depth and size, that was
 * copied out of the debug information (src/symbol/type_read.c): it needs neither file nor process any more, and all
 * offsets in it have been held against its size. Names in it have no control characters.
 *
 * A type may be read by any number of threads; nothing here is for signal handlers.
 */
#ifndef TRAPLINE_SYMBOL_TYPE_H
#define TRAPLINE_SYMBOL_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tl_datatype_kind {
    TL_DATA_BYTES,   /* nothing is known but the size, or it is of a kind that is shown so */
    TL_DATA_INTEGER, /* up to 16 bytes */
    TL_DATA_BOOL,
    TL_DATA_CHAR, /* one byte that is a character */
    TL_DATA_ENUM,
    TL_DATA_FLOAT,   /* 4, 8 or 16 bytes: float, double, long double */
    TL_DATA_POINTER, /* and references */
    TL_DATA_ARRAY,
    TL_DATA_STRUCT,
    TL_DATA_UNION
};

struct tl_datatype {
    uint8_t kind;             /* enum tl_datatype_kind */
    bool is_signed;           /* INTEGER, CHAR, ENUM */
    uint8_t bits, bit_offset; /* bits other than 0: a bit field, those bits of the `size` bytes (at most 8) as one
                                 number */
    uint64_t size;            /* bytes */
    char *name;               /* "unsigned int", "struct conf", "char *", as declared; never NULL */
    uint64_t count;           /* ARRAY: elements. STRUCT, UNION: members. ENUM: enumerators */
    struct tl_datatype *element;
    struct tl_member *members;
    struct tl_enumerator *enumerators;
};

struct tl_member {
    char *name; /* NULL: anonymous, its members are as if they were the outer type's own */
    uint64_t offset;
    bool is_base; /* a base class */
    struct tl_datatype *type;
};

struct tl_enumerator {
    char *name;
    int64_t value;
};

/* A type of that many bytes of which nothing else is known; NULL without memory. */
struct tl_datatype *tl_datatype_of_bytes(uint64_t size);
void tl_datatype_free(struct tl_datatype *type); /* NULL is allowed */

/* Whether values are whole numbers that can be compared: integers, truth values, characters, enumerations, pointers,
 * bit fields, and bytes of no known type, of 1, 2, 4 or 8 bytes. */
static inline bool tl_datatype_is_number(const struct tl_datatype *type)
{
    return type->kind <= TL_DATA_POINTER && type->kind != TL_DATA_FLOAT &&
           (type->size == 1 || type->size == 2 || type->size == 4 || type->size == 8);
}

/* What lies `size` bytes (0: whatever there is) at `offset` of a value, by its path from there: ".limit", "[3].next",
 * "" for the whole. NULL, and an empty path, where no member or element begins there that is so long. The type belongs
 * to `type`. */
const struct tl_datatype *tl_datatype_at(const struct tl_datatype *type, uint64_t offset, uint64_t size, char *path,
                                         size_t room);

/* What to call addresses that a pointer holds: false where there is no name. NULL instead of it: never any. */
struct tl_value_names {
    bool (*describe)(void *context, uint64_t addr, char *text, size_t size);
    void *context;
};

/* A value as gdb would print it: `42`, `-1.5`, `true`, `65 'A'`, `RED`, `0x401136 <main>`, `"text"`,
 * `{a = 1, b = {2, 3}}`; hexadecimal where nothing is known but the size. `bytes` holds `size` bytes, which may be
 * fewer than the type has: then what is missing is shown as `?`. `out` is terminated, and cut with … where it does not
 * fit. Returns the length. */
size_t tl_value_text(const struct tl_datatype *type, const void *bytes, size_t size, const struct tl_value_names *names,
                     char *out, size_t room);
/* The same as one JSON value: numbers, also for characters and for what has no type; true and false; enumerators and
 * arrays of characters as strings; pointers as hexadecimal strings; arrays and objects; null for what is missing. What
 * does not fit becomes null as a whole. */
size_t tl_value_json(const struct tl_datatype *type, const void *bytes, size_t size, char *out, size_t room);

#endif
