/* SPDX-License-Identifier: MIT
 *
 * Files made to hurt: thousands of mutants of real files, by a generator with a fixed seed, each asked everything.
 * Nothing may crash, and nothing that is answered may lie outside the file. (The sanitizers of MODE=asan and MODE=ubsan
 * look deeper.)
 */
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

enum { MUTANTS_EACH = 3000 };

/* fuzz/symbol_fuzz.c */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* The content of a section by chance; of one with debug information only, if asked for. */
static bool choose_section(const uint8_t *bytes, size_t size, const Elf64_Ehdr *original, bool debug_only, size_t *from,
                           size_t *length)
{
    Elf64_Shdr section, names;
    memcpy(&section, bytes + original->e_shoff + next_random() % original->e_shnum * sizeof section, sizeof section);
    memcpy(&names, bytes + original->e_shoff + original->e_shstrndx * sizeof names, sizeof names);
    if (!section.sh_size || section.sh_offset >= size || section.sh_size > size - section.sh_offset)
        return false;
    if (debug_only && (names.sh_offset + section.sh_name + 6 > size ||
                       memcmp(bytes + names.sh_offset + section.sh_name, ".debug", 6) != 0))
        return false;
    *from = section.sh_offset;
    *length = section.sh_size;
    return true;
}

/* Change a file a little: bits anywhere, or, more to the point, numbers in its headers and tables. */
static size_t mutate(uint8_t *bytes, size_t size, const Elf64_Ehdr *original, bool debug_only)
{
    static const uint64_t hard[] = {
        0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff, 0xffffffffffffffff, 0x1000, 24, 64};
    for (unsigned changes = 1 + next_random() % 6; changes-- > 0;) {
        size_t from = 0, length = size;
        switch (next_random() % 6) {
        case 0:
            length = sizeof *original;
            break;
        case 1:
            from = original->e_phoff;
            length = original->e_phnum * sizeof(Elf64_Phdr);
            break;
        case 2:
            if (original->e_shnum == 0)
                break;
            from = original->e_shoff;
            length = original->e_shnum * sizeof(Elf64_Shdr);
            break;
        case 3:
        case 4:
            if (original->e_shnum)
                choose_section(bytes, size, original, false, &from, &length);
            break;
        }
        while (debug_only && !choose_section(bytes, size, original, true, &from, &length)) {
        }
        size_t at = from + next_random() % length;
        if (next_random() % 2) {
            bytes[at] ^= 1u << (next_random() % 8);
        } else {
            uint64_t value = hard[next_random() % (sizeof hard / sizeof *hard)];
            at &= ~(size_t)7;
            memcpy(bytes + at, &value, at + 8 <= size ? 8 : 1);
        }
    }
    return next_random() % 16 == 0 ? next_random() % size : size;
}

static void mutants_of(const char *path, unsigned mutants, bool debug_only)
{
    struct stat status;
    int fd = open(path, O_RDONLY);
    assert_int_equal(fstat(fd, &status), 0);
    size_t size = (size_t)status.st_size, opened = 0;
    uint8_t *original = malloc(size), *mutant = malloc(size);
    assert_int_equal(read(fd, original, size), size);
    close(fd);
    for (unsigned i = 0; i < mutants; i++) {
        struct tl_object *object = NULL;
        memcpy(mutant, original, size);
        size_t length = mutate(mutant, size, (const Elf64_Ehdr *)original, debug_only);
        if (tl_object_open_memory(mutant, length, "mutant", &object, NULL) == 0)
            opened++;
        tl_object_close(object);
        LLVMFuzzerTestOneInput(mutant, length);
    }
    print_message("%s: %u mutants, %zu opened\n", path, mutants, opened);
    assert_in_range(opened, mutants / 20, mutants - 1);
    free(original);
    free(mutant);
}

static void mutants_do_no_harm(void **state)
{
    (void)state;
    random_state = 0x7261706c696e65;
    static const char *const names[] = {
        "pie", "stripped", "libsmall.so.7.1", "musl", "rseq-pie", "headless-libsmall.so.7.1", "headless-sysv"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        mutants_of(fixture(names[i]), MUTANTS_EACH, false);
}

/* Only the debug information is changed: all of these files can be opened, and nearly all have variables. */
static void mutants_of_debug_information_do_no_harm(void **state)
{
    (void)state;
    random_state = 0x6564616c7069;
    static const char *const names[] = {"variables",   "variables-4",     "variables-2",
                                        "variables-z", "variables-clang", "variables-cc"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        mutants_of(fixture(names[i]), MUTANTS_EACH / 5, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(mutants_do_no_harm),
                                       cmocka_unit_test(mutants_of_debug_information_do_no_harm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
