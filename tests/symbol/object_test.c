/* SPDX-License-Identifier: MIT
 *
 * Opening files: what they say of themselves, their bytes, and the refusals.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

static void a_file_says_what_it_is(void **state)
{
    (void)state;
    struct tl_object *object = open_object(fixture("pie"));
    assert_true(tl_object_is_pie(object));
    assert_string_equal(tl_object_interpreter(object), "/lib64/ld-linux-x86-64.so.2");
    assert_null(tl_object_soname(object));
    assert_int_equal(tl_object_entry(object), number_behind("Entry point address:", "readelf -h %s", fixture("pie")));
    tl_object_close(object);
    object = open_object(fixture("libsmall.so.7.1"));
    assert_string_equal(tl_object_soname(object), "libsmall.so.7");
    tl_object_close(object);
    object = open_object(fixture("static"));
    assert_false(tl_object_is_pie(object));
    assert_null(tl_object_interpreter(object));
    tl_object_close(object);
}

static void text_is_the_bytes_of_the_file(void **state)
{
    (void)state;
    static const char *const files[] = {"pie", "nopie", "static", "go", "musl"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct tl_object *object = open_object(fixture(files[i]));
        int fd = open(fixture(files[i]), O_RDONLY);
        const struct tl_function *function;
        assert_true(named(object, i == 3 ? "main.main" : "main", &function) == 1);
        uint64_t offset, addr;
        size_t available;
        uint8_t bytes[16];
        assert_int_equal(tl_object_addr_to_offset(object, function->addr, &offset), 0);
        assert_int_equal(tl_object_offset_to_addr(object, offset, true, &addr), 0);
        assert_int_equal(addr, function->addr);
        assert_int_equal(pread(fd, bytes, sizeof bytes, (off_t)offset), sizeof bytes);
        const uint8_t *text = tl_object_text(object, addr, &available);
        assert_non_null(text);
        assert_true(available >= function->size);
        assert_memory_equal(text, bytes, sizeof bytes);
        assert_non_null(tl_object_text(object, addr + available - 1, &available));
        assert_int_equal(available, 1);
        assert_null(tl_object_text(object, 1, &available));
        assert_int_equal(tl_object_addr_to_offset(object, UINT64_MAX, &offset), -ENOENT);
        assert_int_equal(tl_object_offset_to_addr(object, UINT64_MAX, false, &addr), -ENOENT);
        if (i == 0) /* here the ELF header is mapped, but is not code */
            assert_int_equal(tl_object_offset_to_addr(object, 1, true, &addr), -ENOENT);
        assert_int_equal(tl_object_offset_to_addr(object, 1, false, &addr), 0);
        close(fd);
        tl_object_close(object);
    }
}

static void refused(const char *path, int code, const char *text)
{
    struct tl_object *object = NULL;
    struct tl_error error = {0};
    assert_int_equal(tl_object_open(path, NULL, &object, &error), code);
    assert_int_equal(error.code, code);
    if (!strstr(error.text, text))
        fail_msg("\"%s\" does not say \"%s\"", error.text, text);
}

static void what_is_no_program_is_refused(void **state)
{
    (void)state;
    char fifo[] = "/tmp/trapline-fifo-XXXXXX";
    refused("/no/such/file", -ENOENT, "No such file");
    refused("/etc/passwd", -ENOEXEC, "not an ELF file");
    refused("/dev/null", -ENOEXEC, "not a regular file");
    refused("/tmp", -ENOEXEC, "not a regular file");
    refused(fixture("relocatable.o"), -ENOEXEC, "relocatable");
    close(mkstemp(fifo));
    refused(fifo, -ENOEXEC, "not an ELF file"); /* empty */
    unlink(fifo);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    refused(fifo, -ENOEXEC, "not a regular file");
    unlink(fifo);
}

static uint8_t *slurp(const char *path, size_t *size)
{
    struct stat status;
    int fd = open(path, O_RDONLY);
    assert_int_equal(fstat(fd, &status), 0);
    uint8_t *bytes = malloc((size_t)status.st_size);
    assert_int_equal(read(fd, bytes, (size_t)status.st_size), status.st_size);
    close(fd);
    *size = (size_t)status.st_size;
    return bytes;
}

/* One header field of a good file changed: the code, and what the text has to name. */
static void field_is_checked(size_t at, uint64_t value, size_t width, int code, const char *text)
{
    size_t size;
    uint8_t *bytes = slurp(fixture("pie"), &size);
    struct tl_object *object = NULL;
    struct tl_error error = {0};
    memcpy(bytes + at, &value, width);
    int result = tl_object_open_memory(bytes, size, "image", &object, &error);
    free(bytes);
    if (result != code || !strstr(error.text, text))
        fail_msg("field %zu: %d \"%s\", not %d \"%s\"", at, result, error.text, code, text);
}

static void a_header_that_does_not_fit_is_named(void **state)
{
    (void)state;
    field_is_checked(EI_CLASS, ELFCLASS32, 1, -ENOEXEC, "x32");
    field_is_checked(EI_DATA, ELFDATA2MSB, 1, -ENOEXEC, "big-endian");
    field_is_checked(offsetof(Elf64_Ehdr, e_machine), EM_AARCH64, 2, -ENOEXEC, "aarch64");
    field_is_checked(offsetof(Elf64_Ehdr, e_machine), 999, 2, -ENOEXEC, "999");
    field_is_checked(offsetof(Elf64_Ehdr, e_type), ET_CORE, 2, -ENOEXEC, "core");
    field_is_checked(offsetof(Elf64_Ehdr, e_type), 77, 2, -EINVAL, "77");
    field_is_checked(offsetof(Elf64_Ehdr, e_phnum), 0, 2, -EINVAL, "no program headers");
    field_is_checked(offsetof(Elf64_Ehdr, e_phoff), UINT64_MAX - 8, 8, -EINVAL, "program headers lie outside");
    field_is_checked(offsetof(Elf64_Ehdr, e_phentsize), 1, 2, -EINVAL, "program headers");
    field_is_checked(offsetof(Elf64_Ehdr, e_shoff), UINT64_MAX - 64, 8, -EINVAL, "section headers lie outside");
    field_is_checked(offsetof(Elf64_Ehdr, e_shnum), 60000, 2, -EINVAL, "60000 sections");
    /* 32-bit machines by their number. */
    size_t size;
    uint8_t *bytes = slurp(fixture("pie"), &size);
    struct tl_object *object = NULL;
    struct tl_error error = {0};
    bytes[EI_CLASS] = ELFCLASS32;
    bytes[offsetof(Elf64_Ehdr, e_machine)] = EM_386;
    assert_int_equal(tl_object_open_memory(bytes, size, "image", &object, &error), -ENOEXEC);
    assert_non_null(strstr(error.text, "i386"));
    free(bytes);
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = slurp(fixture("pie"), &size);
    for (size_t length = 0; length < size; length += length < 4096 ? 1 : 97) {
        struct tl_object *object = NULL;
        struct tl_error error = {0};
        int result = tl_object_open_memory(bytes, length, "image", &object, &error);
        assert_true(result == -EINVAL || (result == -ENOEXEC && length < EI_NIDENT));
        assert_true(error.text[0] != '\0');
        if (length >= sizeof(Elf64_Ehdr))
            assert_non_null(strstr(error.text, "truncated"));
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_says_what_it_is),         cmocka_unit_test(text_is_the_bytes_of_the_file),
        cmocka_unit_test(what_is_no_program_is_refused),  cmocka_unit_test(a_header_that_does_not_fit_is_named),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
