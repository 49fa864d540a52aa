/* SPDX-License-Identifier: MIT */
#include "random_spec.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PICK(chance, ...)                                                                                              \
    ((const char *const[]){                                                                                            \
        __VA_ARGS__})[chance_below(chance, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))]

struct names { /* of the arguments written so far, and which of them are strings */
    char text[32][16];
    bool is_string[32];
    unsigned count;
};

static void random_number(FILE *out, struct chance *chance, uint64_t number)
{
    static const char *const formats[] = {"%" PRIu64, "0x%" PRIx64, "0X%" PRIX64, "0%" PRIo64};
    fprintf(out, formats[chance_below(chance, 4)], number);
}

static uint64_t random_size(struct chance *chance)
{
    return chance_bits(chance) >> (2 + chance_below(chance, 61));
}

/* What is known to be at a function's entry, at its return, or inside it. */
enum place { ENTRY, RETURN, INSIDE };

static enum place random_probe(FILE *out, struct chance *chance)
{
    const char *module = PICK(chance, "/bin/ls", "libc.so.6", "EXE", "*", "/a:b/*.so", "libm");
    const char *function = PICK(chance, "main", "str*", "_ZN1aC1Ev", "a.part.0", "mem[cm]*", "f\xc3\xa9", "x@@V_1");
    uint64_t offset = 1 + random_size(chance);
    bool is_return = chance_below(chance, 2);
    switch (chance_below(chance, 7)) {
    case 0:
        fprintf(out, "%s%s %s:%s", is_return ? "r" : "p", PICK(chance, "", ":ev", ":grp/ev", ":g/"), module, function);
        return is_return ? RETURN : ENTRY;
    case 1:
        fprintf(out, "p %s:", module);
        random_number(out, chance, offset);
        fprintf(out, "%s", is_return ? "%return" : "");
        return is_return ? RETURN : ENTRY;
    case 2:
        fprintf(out, "u%sprobe:%s:%s", is_return ? "ret" : "", module, function);
        return is_return ? RETURN : ENTRY;
    case 3:
        fprintf(out, "pid%s:%s:%s:%s", PICK(chance, "$target", "1", "4711"), strchr(module, ':') ? "" : module,
                function, is_return ? "return" : "entry");
        return is_return ? RETURN : ENTRY;
    case 4:
        fprintf(out, "pid$target::%s:%" PRIx64, function, offset);
        return INSIDE;
    case 5:
        fprintf(out, "%s!%s%s", strchr(module, '/') ? "libz" : module, function, is_return ? "%return" : "");
        return is_return ? RETURN : ENTRY;
    default:
        fprintf(out, "%s+", function);
        random_number(out, chance, offset);
        return INSIDE;
    }
}

static void random_fetch(FILE *out, struct chance *chance, enum place place, unsigned depth)
{
    switch (chance_below(chance, depth ? 7 : 5)) {
    case 0:
        fprintf(out, "%%%s",
                PICK(chance, "di", "rax", "eax", "al", "bh", "r8d", "r15b", "sil", "flags", "ip", "esp", "r9w"));
        break;
    case 1:
        fprintf(out, "%s",
                place == RETURN  ? "$retval"
                : place == ENTRY ? PICK(chance, "$arg1", "$arg6", "$arg9")
                                 : PICK(chance, "$stack", "$stack0", "$stack12"));
        break;
    case 2:
        fprintf(out, "@");
        random_number(out, chance, random_size(chance));
        break;
    case 3:
        fprintf(out, "@%s", PICK(chance, "counter", "counter+8", "counter-0x10", "+64"));
        break;
    case 4:
        fprintf(out, "\\%s", PICK(chance, "-", ""));
        random_number(out, chance, random_size(chance));
        break;
    default:
        fprintf(out, "%s", PICK(chance, "+", "-", "+u"));
        random_number(out, chance, random_size(chance));
        fputc('(', out);
        random_fetch(out, chance, place, depth - 1);
        fputc(')', out);
    }
}

static void random_arg(FILE *out, struct chance *chance, enum place place, struct names *names)
{
    char *name = names->text[names->count];
    const char *type = PICK(chance, "", ":u8", ":s16", ":x32", ":u64", ":s64", ":char", ":symbol", ":string", ":b3@2/8",
                            ":b63@1/64", ":ustring");
    bool is_named = chance_below(chance, 2);
    snprintf(name, sizeof names->text[0], is_named ? "_n%uAz" : "arg%u", names->count + 1);
    if (is_named)
        fprintf(out, "%s=", name);
    names->is_string[names->count++] = strstr(type, "string") != NULL;
    random_fetch(out, chance, place, 1 + chance_below(chance, 3));
    fputs(type, out);
}

static void random_condition(FILE *out, struct chance *chance, const struct names *names, unsigned depth)
{
    if (names->count && chance_below(chance, 2)) {
        unsigned index = chance_below(chance, names->count);
        fputs(names->text[index], out);
        if (names->is_string[index])
            fprintf(out, "%s\"%s\"", PICK(chance, "==", " != ", " ~ "),
                    PICK(chance, "", "a", "lib*", "\\n\\\"", "[!x]?"));
        return;
    }
    if (!depth || chance_below(chance, 4) == 0) {
        fprintf(out, "%s",
                PICK(chance, "pid", "tid", "1", "0x7fffffffffffffff", "'a'", "18446744073709551615", "'\\0'", "7ul"));
        return;
    }
    fprintf(out, "%s(", PICK(chance, "", "!", "-", "~", "- -"));
    random_condition(out, chance, names, depth - 1);
    fprintf(out, ")%s(",
            PICK(chance, "+", "-", " * ", " & ", "|", "^", "<", "<=", " >", ">=", "==", "!=", "&&", " || "));
    random_condition(out, chance, names, depth - 1);
    fputc(')', out);
}

void random_spec(FILE *out, struct chance *chance)
{
    struct names names = {.count = 0};
    enum place place = random_probe(out, chance);
    for (unsigned i = chance_below(chance, 6); i--;) {
        fputs(PICK(chance, " ", "\t", "  "), out);
        random_arg(out, chance, place, &names);
    }
    if (chance_below(chance, 2)) {
        bool is_wrapped = chance_below(chance, 2);
        fputs(is_wrapped ? " if(" : PICK(chance, " if ", "\tif  "), out);
        random_condition(out, chance, &names, 4);
        fputs(is_wrapped ? ")" : "", out);
    }
}

static struct random_value random_literal(FILE *out, struct chance *chance, uint64_t bits)
{
    bool is_unsigned = bits > INT64_MAX || chance_below(chance, 3) == 0;
    random_number(out, chance, bits);
    if (is_unsigned && (bits <= INT64_MAX || chance_below(chance, 2)))
        fputs(PICK(chance, "ul", "UL", "lu", "ull"), out);
    return (struct random_value){bits, is_unsigned};
}

enum operation {
    ADD,
    SUB,
    MUL,
    AND,
    OR,
    XOR,
    DIV,
    MOD,
    SHL,
    SHR,
    EQ,
    NE,
    LT,
    LE,
    GT,
    GE,
    LOGICAL_AND,
    LOGICAL_OR,
    OPERATIONS
};
static const struct {
    const char *text;
    unsigned precedence;
} operations[OPERATIONS] = {{"+", 9},  {"-", 9},  {"*", 10}, {"&", 5},  {"|", 3},  {"^", 4},
                            {"/", 10}, {"%", 10}, {"<<", 8}, {">>", 8}, {"==", 6}, {"!=", 6},
                            {"<", 7},  {"<=", 7}, {">", 7},  {">=", 7}, {"&&", 2}, {"||", 1}};

static struct random_value signed_value(int64_t value)
{
    return (struct random_value){(uint64_t)value, false};
}

static struct random_value apply(enum operation operation, struct random_value left, struct random_value right)
{
    uint64_t a = left.bits, b = right.bits;
    int64_t sa = (int64_t)a, sb = (int64_t)b;
    bool either = left.is_unsigned || right.is_unsigned;
    switch (operation) {
    case ADD:
        return (struct random_value){a + b, either};
    case SUB:
        return (struct random_value){a - b, either};
    case MUL:
        return (struct random_value){a * b, either};
    case AND:
        return (struct random_value){a & b, either};
    case OR:
        return (struct random_value){a | b, either};
    case XOR:
        return (struct random_value){a ^ b, either};
    case DIV:
        return (struct random_value){either ? a / b : (uint64_t)(sa / sb), either};
    case MOD:
        return (struct random_value){either ? a % b : (uint64_t)(sa % sb), either};
    case SHL:
        return (struct random_value){a << b, left.is_unsigned};
    case SHR:
        return (struct random_value){left.is_unsigned ? a >> b : (uint64_t)(sa >> b), left.is_unsigned};
    case EQ:
        return signed_value(a == b);
    case NE:
        return signed_value(a != b);
    case LT:
        return signed_value(either ? a < b : sa < sb);
    case LE:
        return signed_value(either ? a <= b : sa <= sb);
    case GT:
        return signed_value(either ? a > b : sa > sb);
    case GE:
        return signed_value(either ? a >= b : sa >= sb);
    case LOGICAL_AND:
        return signed_value(a && b);
    default:
        return signed_value(a || b);
    }
}

static struct random_value random_within(FILE *out, struct chance *chance, unsigned depth, unsigned min_precedence)
{
    static const uint64_t notable[] = {0,          1,          2,         63,         255,       0x7fffffff,
                                       0x80000000, 0xffffffff, INT64_MAX, 1ull << 63, UINT64_MAX};
    if (!depth)
        return random_literal(out, chance,
                              chance_below(chance, 2) ? notable[chance_below(chance, 11)] : random_size(chance));
    if (chance_below(chance, 5) == 0) {
        char unary = "!-~"[chance_below(chance, 3)];
        fputc(unary, out);
        struct random_value value = random_within(out, chance, depth - 1, 11);
        return unary == '!' ? signed_value(!value.bits)
                            : (struct random_value){unary == '-' ? 0 - value.bits : ~value.bits, value.is_unsigned};
    }
    enum operation operation = (enum operation)chance_below(chance, OPERATIONS);
    unsigned precedence = operations[operation].precedence;
    bool is_inner = precedence < min_precedence;
    fputs(is_inner ? "(" : "", out);
    struct random_value right, left = random_within(out, chance, depth - 1, precedence);
    fprintf(out, "%s%s%s", PICK(chance, "", " "), operations[operation].text, PICK(chance, "", " "));
    if (operation == SHL || operation == SHR)
        right = random_literal(out, chance, chance_below(chance, 64));
    else if (operation == DIV || operation == MOD)
        right = random_literal(out, chance, 2 + chance_below(chance, 1000));
    else
        right = random_within(out, chance, depth - 1, precedence + 1);
    fputs(is_inner ? ")" : "", out);
    return apply(operation, left, right);
}

struct random_value random_expression(FILE *out, struct chance *chance, unsigned depth)
{
    return random_within(out, chance, depth, 0);
}
