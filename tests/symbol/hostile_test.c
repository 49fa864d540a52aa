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

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static int count_match(void *context, const struct tl_function *function)
{
    (void)function;
    ++*(size_t *)context;
    return 0;
}

static int no_memory(void *host, uint64_t addr, void *bytes, size_t size)
{
    (void)host;
    (void)addr;
    memset(bytes, 0x41, size);
    return 0;
}

static void ask_everything(struct tl_object *object)
{
    size_t count, available, matches = 0;
    uint64_t addr, size, offset;
    char text[64];
    struct tl_part parts[8];
    struct tl_module module = {.path = (char *)"mutant", .object = object, .end = 1 << 20};
    struct tl_modules modules = {.modules = &module, .count = 1};
    tl_object_match(object, "*a*", count_match, &matches);
    tl_object_match(object, "main", count_match, &matches);
    const struct tl_function *functions = tl_object_functions(object, &count);
    for (size_t i = 0; i < count; i++) {
        const struct tl_function *f = &functions[i];
        if (f->name)
            assert_true(strlen(f->name) > 0);
        assert_non_null(tl_object_text(object, f->addr, &available));
        assert_true(f->size <= available);
        assert_true(i == 0 || functions[i - 1].addr <= f->addr);
        if (i % 7 == 0) {
            size_t part_count = tl_object_parts(object, f, parts, 8);
            assert_in_range(part_count, 1, 8);
            assert_int_equal(parts[0].addr, f->addr);
            assert_non_null(tl_object_function_at(object, f->addr));
            tl_modules_describe(&modules, f->addr, text, sizeof text);
        }
        if (f->kind == TL_FUNCTION_IFUNC)
            tl_modules_resolve_ifunc(&modules, &module, f, no_memory, NULL, &addr);
        tl_object_in_rseq(object, f->addr);
    }
    tl_object_function_at(object, tl_object_entry(object));
    tl_object_variable(object, "environ", &addr, &size);
    tl_object_soname(object);
    tl_object_interpreter(object);
    tl_object_offset_to_addr(object, 0x1000, &addr);
    tl_object_addr_to_offset(object, tl_object_entry(object), &offset);
    tl_object_in_rseq(object, tl_object_entry(object));
    tl_modules_find(&modules, "libsmall", 0);
}

/* Change a file a little: bits anywhere, or, more to the point, numbers in its headers and tables. */
static size_t mutate(uint8_t *bytes, size_t size)
{
    static const uint64_t hard[] = {
        0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff, 0xffffffffffffffff, 0x1000, 24, 64};
    Elf64_Ehdr header;
    memcpy(&header, bytes, sizeof header);
    for (unsigned changes = 1 + next_random() % 6; changes-- > 0;) {
        size_t from = 0, length = size;
        switch (next_random() % 6) {
        case 0:
            length = sizeof header;
            break;
        case 1:
            from = header.e_phoff;
            length = header.e_phnum * sizeof(Elf64_Phdr);
            break;
        case 2:
            from = header.e_shoff;
            length = header.e_shnum * sizeof(Elf64_Shdr);
            break;
        case 3: /* the first pages: notes, symbols, names, relocations */
            length = size < 6144 ? size : 6144;
            break;
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
        struct tl_error error = {0};
        memcpy(mutant, original, size);
        size_t length = mutate(mutant, size);
        int result = tl_object_open_memory(mutant, length, "mutant", &object, &error);
        if (result == 0) {
            ask_everything(object);
            tl_object_close(object);
            opened++;
        } else {
            assert_true(result == -EINVAL || result == -ENOEXEC);
            assert_true(error.text[0] != '\0');
        }
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
    static const char *const names[] = {"pie", "stripped", "libsmall.so.7.1", "musl", "rseq-pie"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        mutants_of(fixture(names[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(mutants_do_no_harm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
