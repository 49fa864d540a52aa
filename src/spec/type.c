/* SPDX-License-Identifier: MIT
 *
 * The types of fetch arguments: u8…u64, s8…s64, x8…x64, char, symbol, string, ustring and bit fields b<w>@<o>/<size>.
 */
#include "spec/fetch.h"

#include <string.h>

static const struct {
    const char *name;
    struct tl_type type;
} types[] = {
    {"u8", {1, TL_SHOW_UNSIGNED, 0, 0}},   {"u16", {2, TL_SHOW_UNSIGNED, 0, 0}},
    {"u32", {4, TL_SHOW_UNSIGNED, 0, 0}},  {"u64", {8, TL_SHOW_UNSIGNED, 0, 0}},
    {"s8", {1, TL_SHOW_SIGNED, 0, 0}},     {"s16", {2, TL_SHOW_SIGNED, 0, 0}},
    {"s32", {4, TL_SHOW_SIGNED, 0, 0}},    {"s64", {8, TL_SHOW_SIGNED, 0, 0}},
    {"x8", {1, TL_SHOW_HEX, 0, 0}},        {"x16", {2, TL_SHOW_HEX, 0, 0}},
    {"x32", {4, TL_SHOW_HEX, 0, 0}},       {"x64", {8, TL_SHOW_HEX, 0, 0}},
    {"char", {1, TL_SHOW_CHAR, 0, 0}},     {"symbol", {8, TL_SHOW_SYMBOL, 0, 0}},
    {"string", {8, TL_SHOW_STRING, 0, 0}}, {"ustring", {8, TL_SHOW_STRING, 0, 0}},
};

/* b<width>@<offset>/<container>, all in bits; the cursor is at the b. */
static int parse_bit_field(struct tl_scan *scan, struct tl_type *type)
{
    uint64_t width, offset, container;
    scan->at++;
    size_t column = scan->at;
    int error = tl_scan_number(scan, "the width of a bit field", 64, &width);
    if (error)
        return error;
    if (!width)
        return tl_scan_fail(scan, column, -EINVAL, "expected a bit field of at least one bit");
    if (!tl_scan_take(scan, "@"))
        return tl_scan_expected(scan, scan->at, "'@' and the offset of the bit field, as in b%u@0/32", (unsigned)width);
    column = scan->at;
    error = tl_scan_number(scan, "the offset of a bit field", 63, &offset);
    if (error)
        return error;
    if (!tl_scan_take(scan, "/"))
        return tl_scan_expected(scan, scan->at, "'/' and the size of the bit field's container: 8, 16, 32 or 64");
    size_t size_column = scan->at;
    error = tl_scan_number(scan, "the size of a bit field's container", UINT64_MAX, &container);
    if (error)
        return error;
    if (container != 8 && container != 16 && container != 32 && container != 64)
        return tl_scan_fail(scan, size_column, -EINVAL, "expected a container of 8, 16, 32 or 64 bits");
    if (offset + width > container)
        return tl_scan_fail(scan, column, -EINVAL, "expected a bit field that ends within its container of %u bits",
                            (unsigned)container);
    *type = (struct tl_type){(uint8_t)(container / 8), TL_SHOW_UNSIGNED, (uint8_t)width, (uint8_t)offset};
    return 0;
}

int tl_type_parse(struct tl_scan *scan, struct tl_type *type)
{
    size_t column = scan->at, length = tl_scan_word_length(scan);
    const char *name = scan->text + column;
    bool is_known = false;
    for (size_t i = 0; i < sizeof types / sizeof *types && !is_known; i++) {
        if (length == strlen(types[i].name) && !memcmp(name, types[i].name, length)) {
            *type = types[i].type;
            is_known = true;
        }
    }
    if (is_known)
        scan->at += length;
    else if (name[0] == 'b' && tl_is_digit(name[1])) {
        int error = parse_bit_field(scan, type);
        if (error)
            return error;
    } else {
        return tl_scan_expected(
            scan, column,
            "a type: u8 to u64, s8 to s64, x8 to x64, string, char, symbol, or a bit field b<w>@<o>/<size>");
    }
    if (tl_scan_peek(scan) == '[')
        return tl_scan_fail(scan, scan->at, -ENOTSUP,
                            "expected the end of the type: arrays are not supported, fetch the elements one by one");
    return 0;
}
