/* SPDX-License-Identifier: MIT
 *
 * Values as text, the way gdb writes them, and as JSON.
 *
 * Both are one walk over the type with two sets of words. The bytes are the program's and may be anything; so may the
 * type, within the bounds that type_read.c keeps: nothing is read beyond `size`, and long arrays end early.
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "symbol/type.h"

/* As gdb: so many equal elements are written once, and so many elements are written at all. */
enum { REPEATS = 10, ELEMENTS = 200 };

struct out {
    char *text;
    size_t room, used;
    bool is_json, is_full;
    const struct tl_value_names *names;
};

static void put(struct out *out, const char *bytes, size_t length)
{
    if (out->is_full || length > out->room - out->used) {
        out->is_full = true;
        return;
    }
    memcpy(out->text + out->used, bytes, length);
    out->used += length;
}

static void say(struct out *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct out *out, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put(out, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

static void escape(struct out *out, unsigned char c, char quote)
{
    static const char codes[] = "\a\b\t\n\v\f\r\033", letters[] = "abtnvfre", json_letters[] = "\0btn\0fr\0";
    const char *known = c ? strchr(codes, c) : NULL;
    char letter = !known ? 0 : out->is_json ? json_letters[known - codes] : letters[known - codes];
    if (c == (unsigned char)quote || c == '\\')
        say(out, "\\%c", c);
    else if (letter)
        say(out, "\\%c", letter);
    else
        say(out, out->is_json ? c < 0x80 ? "\\u%04x" : "\\ufffd" : "\\%03o", c);
}

static void quote(struct out *out, const unsigned char *text, size_t length, char mark)
{
    put(out, &mark, 1);
    for (size_t i = 0, bytes; i < length; i += bytes) {
        bytes = tl_utf8_length(text + i, length - i);
        bool plain = bytes && text[i] >= ' ' && text[i] != 0x7f && text[i] != '\\' && text[i] != (unsigned char)mark &&
                     !(text[i] == 0xc2 && text[i + 1] < 0xa0);
        if (plain) {
            put(out, (const char *)text + i, bytes);
        } else {
            bytes = 1;
            escape(out, text[i], mark);
        }
    }
    put(out, &mark, 1);
}

static uint64_t load(const uint8_t *bytes, uint64_t size)
{
    uint64_t value = 0;
    memcpy(&value, bytes, size < sizeof value ? size : sizeof value);
    return value;
}

/* Of a number of at most 8 bytes: its own bits, sign-extended where it has a sign. */
static uint64_t number_of(const struct tl_datatype *type, const uint8_t *bytes)
{
    uint64_t value = load(bytes, type->size);
    unsigned bits = type->bits ? type->bits : (unsigned)type->size * 8;
    unsigned up = 64 - bits - (type->bits ? type->bit_offset : 0), down = 64 - bits;
    value <<= up;
    return type->is_signed ? (uint64_t)((int64_t)value >> down) : value >> down;
}

static void show_wide_integer(struct out *out, const struct tl_datatype *type, const uint8_t *bytes)
{
    unsigned __int128 value;
    char digits[48], *at = digits + sizeof digits;
    memcpy(&value, bytes, sizeof value);
    bool negative = type->is_signed && (__int128)value < 0;
    if (negative)
        value = -value;
    do
        *--at = (char)('0' + (unsigned)(value % 10));
    while (value /= 10);
    if (negative)
        *--at = '-';
    put(out, at, (size_t)(digits + sizeof digits - at));
}

static void show_integer(struct out *out, const struct tl_datatype *type, const uint8_t *bytes)
{
    if (type->size > 8)
        show_wide_integer(out, type, bytes);
    else if (type->is_signed)
        say(out, "%" PRId64, (int64_t)number_of(type, bytes));
    else
        say(out, "%" PRIu64, number_of(type, bytes));
}

static void show_bool(struct out *out, const struct tl_datatype *type, const uint8_t *bytes)
{
    uint64_t value = number_of(type, bytes);
    if (value > 1)
        say(out, "%" PRIu64, value);
    else
        say(out, value ? "true" : "false");
}

static void show_char(struct out *out, const struct tl_datatype *type, const uint8_t *bytes)
{
    show_integer(out, type, bytes);
    if (!out->is_json) {
        put(out, " ", 1);
        quote(out, bytes, 1, '\'');
    }
}

static const char *enumerator(const struct tl_datatype *type, uint64_t value)
{
    for (uint64_t i = 0; i < type->count; i++)
        if ((uint64_t)type->enumerators[i].value == value)
            return type->enumerators[i].name;
    return NULL;
}

/* The names of the bits of a set of flags: only where each enumerator is one bit of its own, and all bits that are set
 * have a name. */
static bool show_flags(struct out *out, const struct tl_datatype *type, uint64_t value)
{
    uint64_t known = 0;
    for (uint64_t i = 0; i < type->count; i++) {
        uint64_t bit = (uint64_t)type->enumerators[i].value;
        if (bit & (bit - 1) || bit & known)
            return false;
        known |= bit;
    }
    if (!value || value & ~known)
        return false;
    const char *before = out->is_json ? "\"" : "(";
    for (uint64_t i = 0; i < type->count; i++) {
        if (!(value & (uint64_t)type->enumerators[i].value))
            continue;
        say(out, "%s%.200s", before, type->enumerators[i].name);
        before = " | ";
    }
    say(out, out->is_json ? "\"" : ")");
    return true;
}

static void show_enum(struct out *out, const struct tl_datatype *type, const uint8_t *bytes)
{
    uint64_t value = number_of(type, bytes);
    const char *name = enumerator(type, value);
    if (name && out->is_json)
        quote(out, (const unsigned char *)name, strlen(name), '"');
    else if (name)
        put(out, name, strlen(name));
    else if (!show_flags(out, type, value))
        show_integer(out, type, bytes);
}

/* The shortest digits that give the number back. */
static void show_float(struct out *out, const struct tl_datatype *type, const uint8_t *bytes)
{
    long double wide = 0;
    double middle = 0;
    float narrow = 0;
    char text[64];
    int digits = 6;
    if (type->size == sizeof narrow) {
        memcpy(&narrow, bytes, sizeof narrow);
        wide = narrow;
    } else if (type->size == sizeof middle) {
        memcpy(&middle, bytes, sizeof middle);
        wide = middle;
    } else {
        memcpy(&wide, bytes, 10);
    }
    if (!isfinite(wide)) {
        const char *word = isnan(wide) ? "nan" : wide < 0 ? "-inf" : "inf";
        say(out, out->is_json ? "\"%s\"" : "%s", word);
        return;
    }
    for (bool same = false; !same && digits <= 21; digits++) {
        snprintf(text, sizeof text, "%.*Lg", digits, wide);
        same = type->size == sizeof narrow   ? strtof(text, NULL) == narrow
               : type->size == sizeof middle ? strtod(text, NULL) == middle
                                             : strtold(text, NULL) == wide;
    }
    say(out, "%s", text);
}

static void show_pointer(struct out *out, const struct tl_datatype *type, const uint8_t *bytes)
{
    uint64_t addr = number_of(type, bytes);
    char name[200];
    say(out, out->is_json ? "\"0x%" PRIx64 "\"" : "0x%" PRIx64, addr);
    if (!out->is_json && addr && out->names && out->names->describe(out->names->context, addr, name, sizeof name))
        say(out, " <%s>", name);
}

/* How often the element at `at` is repeated, where that is to be written once. */
static uint64_t repeats(const struct out *out, const uint8_t *bytes, uint64_t size, uint64_t at, uint64_t step)
{
    uint64_t same = 1;
    if (!out->is_json)
        while (at + (same + 1) * step <= size && !memcmp(bytes + at, bytes + at + same * step, step))
            same++;
    return same < REPEATS ? 1 : same;
}

static void say_repeats(struct out *out, uint64_t same)
{
    if (same > 1)
        say(out, " <repeats %" PRIu64 " times>", same);
}

/* Of no known type: by words of the size that there is. */
static void show_bytes(struct out *out, const uint8_t *bytes, uint64_t size)
{
    uint64_t word = size % 8 == 0 ? 8 : size % 4 == 0 ? 4 : size % 2 == 0 ? 2 : 1, same;
    if (size == 0 || size > word)
        say(out, out->is_json ? "[" : "{");
    for (uint64_t at = 0, written = 0; at < size && !out->is_full; at += same * word, written++) {
        if (at)
            say(out, out->is_json ? "," : ", ");
        if (written == ELEMENTS) {
            say(out, out->is_json ? "null" : "...");
            break;
        }
        same = repeats(out, bytes, size, at, word);
        if (out->is_json)
            say(out, "%" PRIu64, load(bytes + at, word));
        else
            say(out, "0x%0*" PRIx64, (int)word * 2, load(bytes + at, word));
        say_repeats(out, same);
    }
    if (size == 0 || size > word)
        say(out, out->is_json ? "]" : "}");
}

static void show(struct out *out, const struct tl_datatype *type, const uint8_t *bytes, uint64_t size);

static void show_array(struct out *out, const struct tl_datatype *type, const uint8_t *bytes, uint64_t size)
{
    const struct tl_datatype *element = type->element;
    uint64_t step = element->size, written = 0;
    if (element->kind == TL_DATA_CHAR) {
        size_t length = size < type->count ? size : type->count;
        quote(out, bytes, strnlen((const char *)bytes, length < ELEMENTS ? length : ELEMENTS), '"');
        return;
    }
    say(out, out->is_json ? "[" : "{");
    for (uint64_t i = 0, same; i < type->count && !out->is_full; i += same, written++) {
        if (i)
            say(out, out->is_json ? "," : ", ");
        same = 1;
        if (written == ELEMENTS) {
            say(out, out->is_json ? "null" : "...");
            break;
        }
        if (step == 0 || i >= size / step) { /* nothing there is left of it, or ever was */
            say(out, out->is_json ? "null" : "?");
            break;
        }
        uint64_t there = size / step < type->count ? size / step : type->count;
        same = repeats(out, bytes, there * step, i * step, step);
        show(out, element, bytes + i * step, step);
        say_repeats(out, same);
    }
    say(out, out->is_json ? "]" : "}");
}

static void show_members(struct out *out, const struct tl_datatype *type, const uint8_t *bytes, uint64_t size)
{
    say(out, "{");
    for (uint64_t i = 0; i < type->count && !out->is_full; i++) {
        const struct tl_member *member = &type->members[i];
        const char *name = member->name ? member->name : "";
        if (i)
            say(out, out->is_json ? "," : ", ");
        if (out->is_json) {
            quote(out, (const unsigned char *)name, strlen(name), '"');
            say(out, ":");
        } else if (*name) {
            say(out, member->is_base ? "<%.200s> = " : "%.200s = ", name);
        }
        bool is_there = member->offset <= size;
        show(out, member->type, is_there ? bytes + member->offset : bytes, is_there ? size - member->offset : 0);
    }
    say(out, "}");
}

static void show(struct out *out, const struct tl_datatype *type, const uint8_t *bytes, uint64_t size)
{
    bool is_compound = type->kind >= TL_DATA_ARRAY;
    if (!is_compound && size < type->size) {
        say(out, out->is_json ? "null" : "?");
        return;
    }
    switch ((enum tl_datatype_kind)type->kind) {
    case TL_DATA_BYTES:
        show_bytes(out, bytes, type->size);
        break;
    case TL_DATA_INTEGER:
        show_integer(out, type, bytes);
        break;
    case TL_DATA_BOOL:
        show_bool(out, type, bytes);
        break;
    case TL_DATA_CHAR:
        show_char(out, type, bytes);
        break;
    case TL_DATA_ENUM:
        show_enum(out, type, bytes);
        break;
    case TL_DATA_FLOAT:
        show_float(out, type, bytes);
        break;
    case TL_DATA_POINTER:
        show_pointer(out, type, bytes);
        break;
    case TL_DATA_ARRAY:
        show_array(out, type, bytes, size);
        break;
    case TL_DATA_STRUCT:
    case TL_DATA_UNION:
        show_members(out, type, bytes, size);
        break;
    }
}

size_t tl_value_text(const struct tl_datatype *type, const void *bytes, size_t size, const struct tl_value_names *names,
                     char *text, size_t room)
{
    static const char cut[] = "…";
    struct out out = {.text = text, .room = room > sizeof cut ? room - sizeof cut : 0, .names = names};
    if (!room)
        return 0;
    show(&out, type, bytes, size);
    if (out.is_full && room > sizeof cut) {
        memcpy(text + out.used, cut, sizeof cut - 1);
        out.used += sizeof cut - 1;
    }
    text[out.used] = '\0';
    return out.used;
}

size_t tl_value_json(const struct tl_datatype *type, const void *bytes, size_t size, char *text, size_t room)
{
    struct out out = {.text = text, .room = room ? room - 1 : 0, .is_json = true};
    if (!room)
        return 0;
    show(&out, type, bytes, size);
    if (out.is_full)
        out.used = (size_t)snprintf(text, room, "null");
    text[out.used < room ? out.used : room - 1] = '\0';
    return out.used < room ? out.used : room - 1;
}
