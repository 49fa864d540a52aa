/* SPDX-License-Identifier: MIT
 *
 * The exact copies of some instructions, compared with a file that people can read.
 *
 * `insn_copies_test FILE` compares, `insn_copies_test FILE rebase` writes the file anew.
 */
#include <Zydis/Zydis.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "insn/insn.h"

static const char *const instructions[] = {
    "90",
    "48 89 e5",
    "f3 0f 1e fa",
    "f3 a4",
    "9c",
    "9d",
    "48 cf",
    "0f 0b",
    "8e d0",
    "66 2e 0f 1f 84 00 00 00 00 00",
    /* jumps and branches */
    "eb 10",
    "e9 00 01 00 00",
    "f2 e9 00 01 00 00",
    "74 10",
    "0f 8f 00 01 00 00",
    "2e 75 10",
    "e0 10",
    "e1 10",
    "e2 10",
    "67 e2 10",
    "e3 10",
    "67 e3 10",
    "eb fe",
    /* calls */
    "e8 00 01 00 00",
    "66 66 48 e8 00 01 00 00",
    "f2 e8 00 01 00 00",
    "ff d0",
    "41 ff d3",
    "3e ff d0",
    "ff d4",
    "ff 10",
    "41 ff 54 24 10",
    "ff 54 24 08",
    "ff 15 00 01 00 00",
    "64 ff 14 25 10 00 00 00",
    "3e ff 13",
    "41 f2 ff 13",
    "67 ff 15 00 01 00 00",
    /* indirect jumps, returns */
    "ff e0",
    "3e ff e0",
    "ff 24 c5 00 10 00 00",
    "ff 25 00 01 00 00",
    "f2 ff 25 00 01 00 00",
    "64 ff 25 00 01 00 00",
    "c3",
    "f3 c3",
    "c2 08 00",
    /* operands relative to rip */
    "48 8b 05 00 01 00 00",
    "48 89 05 00 01 00 00",
    "48 8d 05 00 01 00 00",
    "44 8d 0d 00 01 00 00",
    "66 8d 05 00 01 00 00",
    "c7 05 00 01 00 00 01 02 03 04",
    "8a 25 00 01 00 00",
    "67 8b 05 00 01 00 00",
    "64 8b 05 00 01 00 00",
    "48 0f c7 0d 00 01 00 00",
    "c4 e2 fb f6 0d 00 01 00 00",
    "66 0f 3a 61 0d 00 01 00 00 0c",
    "c5 f8 10 05 00 01 00 00",
    "c4 41 78 10 05 00 01 00 00",
    "62 61 7c 48 10 05 00 01 00 00",
    "62 91 7c 48 10 05 00 01 00 00",
    "ff 35 00 01 00 00",
    "48 3b 25 00 01 00 00",
    "0f 1f 05 00 01 00 00",
    "0f b9 05 00 01 00 00",
    /* calls of the kernel; what is refused */
    "0f 05",
    "66 66 0f 05",
    "cd 80",
    "cc",
    "f1",
    "cd 03",
    "c7 f8 00 01 00 00",
    "cb",
    "ff 28",
    "0f 34",
    "66 e8 00 01 00 00",
    "66 ff d0",
    "66 0f 84 00 01 00 00",
    "66 74 10",
    "ff 2d 00 01 00 00",
};

static const struct {
    const char *name;
    uint64_t addr, at;
} rooms[] = {
    {"near", 0x555555554000, 0x555545554000},
    {"far", 0x555555554000, 0x7ffff0000000},
    {"low", 0x401000, 0x10000},
};

static size_t parse_hex(const char *text, uint8_t bytes[TL_INSN_MAX])
{
    size_t length = 0;
    for (char *end; *text; text = end)
        bytes[length++] = (uint8_t)strtoul(text, &end, 16);
    return length;
}

/* One instruction, and the constant behind it if there is one. */
static void print_instruction(FILE *out, const uint8_t *bytes, size_t length, uint64_t addr)
{
    ZydisDisassembledInstruction text;
    for (size_t i = 0; i < length; i++)
        fprintf(out, "%02x ", bytes[i]);
    if (ZYAN_FAILED(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, addr, bytes, length, &text)))
        fprintf(out, " (prefixes)\n");
    else
        fprintf(out, " %s\n", text.text);
}

static void print_copy(FILE *out, const char *room, uint64_t at, const struct tl_copy *copy)
{
    static const char *const states[] = {"before", "after", "within"};
    fprintf(out, "  %s%s%s\n", room, copy->why ? ": " : "", copy->why ? tl_why_text(copy->why) : "");
    for (size_t i = 0; i < copy->marks_used; i++) {
        const struct tl_mark *mark = &copy->marks[i];
        size_t end = i + 1 < copy->marks_used ? copy->marks[i + 1].at : copy->length;
        if (end == mark->at)
            break; /* what follows is the caller's */
        char state[80];
        int used = snprintf(state, sizeof state, "%s %#llx", states[mark->state], (unsigned long long)mark->addr);
        if (mark->unwind)
            snprintf(state + used, sizeof state - (size_t)used,
                     mark->borrowed == TL_NO_REG ? ", rsp+%d" : ", rsp+%d r%d", mark->unwind, mark->borrowed);
        fprintf(out, "    +%02x  %-34s ", mark->at, state);
        print_instruction(out, copy->code + mark->at, end - mark->at, at + mark->at);
    }
}

static void print_all(FILE *out)
{
    uint8_t bytes[TL_INSN_MAX];
    struct tl_insn insn;
    struct tl_copy copy;
    for (size_t i = 0; i < sizeof instructions / sizeof *instructions; i++) {
        size_t length = parse_hex(instructions[i], bytes);
        print_instruction(out, bytes, length, rooms[0].addr);
        for (size_t room = 0; room < sizeof rooms / sizeof *rooms; room++) {
            if (tl_insn_decode(bytes, length, rooms[room].addr, &insn) != 0)
                errx(1, "%s does not decode", instructions[i]);
            bool call = insn.flow == TL_FLOW_CALL || insn.flow == TL_FLOW_CALL_INDIRECT;
            if (rooms[room].addr < UINT32_MAX && !call)
                continue; /* only what they push is different there */
            tl_insn_relocate(&insn, rooms[room].at, &copy);
            print_copy(out, rooms[room].name, rooms[room].at, &copy);
            if (tl_insn_step(&insn, rooms[room].at, &copy) == 0)
                print_copy(out, "stepped", rooms[room].at, &copy);
            if (insn.flow == TL_FLOW_BRANCH && tl_insn_relocate_taken(&insn, rooms[room].at, &copy) == 0)
                print_copy(out, "taken only", rooms[room].at, &copy);
        }
    }
}

static int compare(FILE *expected, FILE *actual)
{
    char left[400], right[400];
    for (size_t line = 1;; line++) {
        const char *more = fgets(left, sizeof left, expected), *have = fgets(right, sizeof right, actual);
        if (!more && !have)
            return 0;
        if (!more || !have || strcmp(left, right) != 0) {
            printf("line %zu\n  expected %s  actually %s", line, more ? left : "the end\n", have ? right : "the end\n");
            return 1;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 2)
        errx(2, "usage: insn_copies_test FILE [rebase]");
    bool rebase = argc > 2 && strcmp(argv[2], "rebase") == 0;
    FILE *file = fopen(argv[1], rebase ? "w" : "r"), *actual = rebase ? file : tmpfile();
    if (!file || !actual)
        err(1, "%s", argv[1]);
    print_all(actual);
    if (rebase)
        return fclose(file) != 0;
    rewind(actual);
    int different = compare(file, actual);
    fclose(file);
    fclose(actual);
    return different;
}
