/* SPDX-License-Identifier: MIT
 *
 * The fuzz target on a fixed set of inputs: damaged valid specs, and mixtures of the grammar's words. The same in every
 * run; a failure aborts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random_spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const words[] = {
    "p",       "r",          "p:",
    "uprobe:", "uretprobe:", "pid$target:",
    "pid7:",   ":",          "!",
    "/bin/ls", "main",       "%return",
    "entry",   "return",     " ",
    " ",       " ",          " if ",
    "a=",      "%di",        "%eax",
    "$arg1",   "$stack",     "$retval",
    "$comm",   "@",          "@+",
    "+8(",     "-0(",        "+u4(",
    ")",       "(",          "\\",
    "\\\"x\"", ":u8",        ":string",
    ":b3@2/",  "8",          "64",
    "0x",      "0xff",       "99999999999999999999",
    "a",       "pid",        "comm",
    "==",      "!=",         "~",
    "&&",      "||",         "<<",
    "/",       "%",          "'a'",
    "\"",      "\"a*\"",     "\\x41",
    "\x80",    "\xc3\xa4",   "\t",
    "\x01",    "ul",         "[4]",
    "+4",      "*",          "usdt:",
    "-",       "mem:",       "watchpoint:",
    "old",     "new",        "ip",
    "->",      "[3]",        ".limit",
    "::",      "/4",         ":rw",
    ":x",      "<int>",      "(anonymous namespace)",
    "0x1000",  "a.c:",       "red",
};

static void run(const char *text, size_t size)
{
    LLVMFuzzerTestOneInput((const uint8_t *)text, size);
}

static void damage(char *text, size_t size, struct chance *chance)
{
    for (unsigned i = 1 + chance_below(chance, 3); i--;) {
        size_t at = chance_bits(chance) % size;
        size_t from = chance_bits(chance) % size;
        switch (chance_below(chance, 4)) {
        case 0:
            text[at] = (char)chance_bits(chance);
            break;
        case 1:
            text[at] ^= (char)(1 << chance_below(chance, 8));
            break;
        case 2:
            text[at] = text[from];
            break;
        default:
            memmove(text + at, text + from, size - (at > from ? at : from));
        }
    }
}

static void damaged_specs(struct chance *chance)
{
    for (unsigned round = 0; round < 30000; round++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        random_spec(out, chance);
        fclose(out);
        damage(text, size, chance);
        run(text, size);
        free(text);
    }
}

static void mixed_words(struct chance *chance)
{
    for (unsigned round = 0; round < 100000; round++) {
        char text[1000] = "";
        size_t size = 0;
        for (unsigned i = 1 + chance_below(chance, 14); i--;) {
            const char *word = words[chance_below(chance, sizeof words / sizeof *words)];
            memcpy(text + size, word, strlen(word));
            size += strlen(word);
        }
        run(text, size);
    }
}

/* Long and deep: nothing may depend on a spec being of a reasonable size. */
static void large_specs(void)
{
    static const char *const repeated[] = {"(",        "!", "-",      "+8(",   "1+",  "(1+", "1&&", "a=%di ", "\"", "x",
                                           "\xc3\xa4", " ", "$arg1 ", "!(0||", "[1]", ".a",  "::b", "<",      ":a"};
    static char text[70000];
    for (size_t i = 0; i < sizeof repeated / sizeof *repeated; i++) {
        for (unsigned with_filter = 0; with_filter < 2; with_filter++) {
            size_t size = (size_t)sprintf(text, with_filter ? "f if " : "f ");
            while (size < sizeof text - 10) {
                memcpy(text + size, repeated[i], strlen(repeated[i]));
                size += strlen(repeated[i]);
                if (size % 1024 < strlen(repeated[i]))
                    run(text, size);
            }
        }
    }
}

int main(void)
{
    struct chance chance = {6};
    damaged_specs(&chance);
    mixed_words(&chance);
    large_specs();
    return 0;
}
