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

/* Change a file a little: bits anywhere, or, more to the point, numbers in its headers and tables. */
static size_t mutate(uint8_t *bytes, size_t size, const Elf64_Ehdr *original)
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
        case 3: /* the content of a section */
        case 4: {
            Elf64_Shdr section;
            if (original->e_shnum == 0)
                break;
            memcpy(&section, bytes + original->e_shoff + next_random() % original->e_shnum * sizeof section,
                   sizeof section);
            if (section.sh_size && section.sh_offset < size && section.sh_size <= size - section.sh_offset) {
                from = section.sh_offset;
                length = section.sh_size;
            }
            break;
        }
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

static void mutants_of(const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY);
    assert_int_equal(fstat(fd, &status), 0);
    size_t size = (size_t)status.st_size, opened = 0;
    uint8_t *original = malloc(size), *mutant = malloc(size);
    assert_int_equal(read(fd, original, size), size);
    close(fd);
    for (unsigned i = 0; i < MUTANTS_EACH; i++) {
        struct tl_object *object = NULL;
        memcpy(mutant, original, size);
        size_t length = mutate(mutant, size, (const Elf64_Ehdr *)original);
        if (tl_object_open_memory(mutant, length, "mutant", &object, NULL) == 0)
            opened++;
        tl_object_close(object);
        LLVMFuzzerTestOneInput(mutant, length);
    }
    print_message("%s: %d mutants, %zu opened\n", path, MUTANTS_EACH, opened);
    assert_in_range(opened, MUTANTS_EACH / 20, MUTANTS_EACH - 1);
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
        mutants_of(fixture(names[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(mutants_do_no_harm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
