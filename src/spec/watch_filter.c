/* SPDX-License-Identifier: MIT
 *
 * Filters of watches. They are parsed twice: with the spec, so that most mistakes are found before any process is
 * touched, and once more when the variable is known, since its type decides which comparisons are unsigned, and its
 * enumerators are names.
 */
#include "spec/watch_filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spec/code.h"
#include "spec/filter.h"

struct known {
    const struct tl_watch_value *value; /* NULL: not yet */
    const struct tl_datatype *type;     /* of the value; NULL: not yet, or none */
    bool may_be_enumerator, has_values;
    char why[200];
};

static bool is_word(const char *name, size_t length, const char *word)
{
    return length == strlen(word) && !memcmp(name, word, length);
}

static struct tl_field field_of(const struct known *known)
{
    const struct tl_datatype *type = known->type;
    if (type)
        return (struct tl_field){(uint8_t)type->size, type->bits, type->bit_offset, type->is_signed};
    return (struct tl_field){.size = known->value ? (uint8_t)known->value->length : 8, .is_signed = !known->value};
}

static bool is_number(const struct known *known)
{
    if (!known->value)
        return true;
    struct tl_datatype bytes = {.size = known->value->length};
    return tl_datatype_is_number(known->type ? known->type : &bytes);
}

static int find_watched(struct known *known, enum tl_name_kind kind, struct tl_name *found, const char **why)
{
    *why = known->why;
    if (!known->has_values) {
        *why = "expected no old or new here: this watch has no value before and after";
        return -ENOTSUP;
    }
    if (!is_number(known)) {
        snprintf(
            known->why, sizeof known->why,
            "expected no old or new here: a filter compares whole numbers of at most 8 bytes, and this is %.60s%s%llu "
            "bytes",
            known->type ? known->type->name : "", known->type && *known->type->name ? ", " : "",
            (unsigned long long)known->value->length);
        return -ENOTSUP;
    }
    found->kind = kind;
    found->field = field_of(known);
    found->is_unsigned = !found->field.is_signed && found->field.size == 8 && found->field.bits % 64 == 0;
    return 0;
}

static int find_enumerator(const struct known *known, const char *name, size_t length, struct tl_name *found)
{
    const struct tl_datatype *type = known->type;
    found->kind = TL_NAME_CONSTANT;
    if (known->may_be_enumerator)
        return 0;
    for (uint64_t i = 0; type && type->kind == TL_DATA_ENUM && i < type->count; i++) {
        if (!is_word(name, length, type->enumerators[i].name))
            continue;
        found->imm = type->enumerators[i].value;
        found->is_unsigned = !type->is_signed && found->imm < 0;
        return 0;
    }
    return -ENOENT;
}

static int find_name(void *context, const char *name, size_t length, struct tl_name *found, const char **why)
{
    struct known *known = context;
    if (is_word(name, length, "old"))
        return find_watched(known, TL_NAME_OLD, found, why);
    if (is_word(name, length, "new"))
        return find_watched(known, TL_NAME_NEW, found, why);
    if (is_word(name, length, "pid"))
        found->kind = TL_NAME_PID;
    else if (is_word(name, length, "tid"))
        found->kind = TL_NAME_TID;
    else if (is_word(name, length, "ip"))
        found->kind = TL_NAME_IP;
    else
        return find_enumerator(known, name, length, found);
    return 0;
}

static int parse(const struct tl_watch *watch, struct known *known, struct tl_filter **filter, struct tl_error *error)
{
    struct tl_scan scan = {.text = watch->text, .at = watch->filter_column, .error = error};
    const struct tl_datatype *type = known->type;
    struct tl_names names = {.find = find_name, .context = known, .known = "a name: old, new, pid, tid or ip"};
    if (type && type->kind == TL_DATA_ENUM)
        names.known = "a name: old, new, pid, tid, ip or an enumerator of the variable's type";
    return tl_filter_parse(&scan, &names, filter);
}

int tl_watch_filter_check(const struct tl_watch *watch, struct tl_error *error)
{
    struct known known = {.may_be_enumerator = !watch->is_address && watch->access != TL_WATCH_X,
                          .has_values = watch->access != TL_WATCH_X};
    struct tl_filter *filter = NULL;
    int result = parse(watch, &known, &filter, error);
    tl_filter_free(filter);
    return result;
}

/* Rejects hits after which the bit field is what it was. Where one of the two is not known, they are not equal. */
static void reject_neighbours(struct tl_code *code, const struct tl_field *field, int64_t *rejects)
{
    tl_code_watched(code, TL_OP_OLD, field);
    tl_code_watched(code, TL_OP_NEW, field);
    tl_code_op(code, TL_OP_EQ, 0, 0, 0);
    tl_code_jump(code, TL_OP_JNZ, rejects);
}

static int emit(const struct tl_watch *watch, struct known *known, struct tl_code *code, struct tl_error *error)
{
    struct tl_filter *filter = NULL;
    int64_t rejects = TL_NO_JUMPS;
    int result = watch->filter_column ? parse(watch, known, &filter, error) : 0;
    if (result)
        return result;
    if (known->type && known->type->bits && known->has_values && known->value->changes_only) {
        struct tl_field field = field_of(known);
        reject_neighbours(code, &field, &rejects);
    }
    if (filter)
        tl_code_branch(code, filter->root, false, &rejects);
    tl_filter_free(filter);
    if (!code->length && !code->error)
        return 0;
    tl_code_op(code, TL_OP_END, 0, 0, 0);
    tl_code_land(code, rejects);
    tl_code_op(code, TL_OP_REJECT, 0, 0, 0);
    struct tl_scan scan = {.text = watch->text, .error = error};
    if (code->error == -E2BIG)
        return tl_scan_fail(&scan, watch->filter_column, -E2BIG,
                            "expected a shorter filter: this one is too large to run on a hit");
    return code->error ? tl_fail(error, code->error, "out of memory") : 0;
}

int tl_watch_compile(const struct tl_watch *watch, const struct tl_watch_value *value, struct tl_operation **code,
                     size_t *length, char **strings, size_t *strings_size, struct tl_error *error)
{
    struct known known = {.value = value, .type = value->type, .has_values = value->has_values};
    struct tl_code *made = calloc(1, sizeof *made);
    *code = NULL;
    *strings = NULL;
    *length = *strings_size = 0;
    if (!made)
        return tl_fail(error, -ENOMEM, "out of memory");
    int result = emit(watch, &known, made, error);
    if (!result && made->length) {
        *code = malloc(made->length * sizeof **code);
        if (!*code)
            result = tl_fail(error, -ENOMEM, "out of memory");
    }
    if (*code) {
        memcpy(*code, made->ops, made->length * sizeof **code);
        *length = made->length;
        *strings = made->strings;
        *strings_size = made->strings_size;
    } else {
        free(made->strings);
    }
    free(made);
    return result;
}
