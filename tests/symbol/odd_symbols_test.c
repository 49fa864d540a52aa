/* SPDX-License-Identifier: MIT
 *
 * Symbols that make no sense, one at a time in an otherwise good file: the rest of its names must not suffer.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"
#include "symbol/object.h"

struct image {
    uint8_t *bytes;
    size_t size, count;
    Elf64_Sym *symbols;
    Elf64_Shdr *strings;
    Elf64_Sym *sum; /* the symbol that the tests bend */
};

static struct image load(void)
{
    struct image image = {0};
    struct stat status;
    int fd = open(fixture("pie"), O_RDONLY);
    assert_int_equal(fstat(fd, &status), 0);
    image.size = (size_t)status.st_size;
    image.bytes = malloc(image.size);
    assert_int_equal(read(fd, image.bytes, image.size), image.size);
    close(fd);
    Elf64_Shdr *sections = (void *)(image.bytes + ((Elf64_Ehdr *)image.bytes)->e_shoff), *table = sections;
    while (table->sh_type != SHT_SYMTAB)
        table++;
    image.strings = &sections[table->sh_link];
    image.symbols = (void *)(image.bytes + table->sh_offset);
    image.count = table->sh_size / sizeof(Elf64_Sym);
    for (size_t i = 0; i < image.count; i++) {
        if (strcmp((char *)image.bytes + image.strings->sh_offset + image.symbols[i].st_name, "sum") == 0)
            image.sum = &image.symbols[i];
        /* The alias would tell the size as well. */
        if (strcmp((char *)image.bytes + image.strings->sh_offset + image.symbols[i].st_name, "sum_alias") == 0)
            image.symbols[i].st_shndx = SHN_UNDEF;
    }
    /* And so would .dynsym. */
    for (Elf64_Shdr *s = sections; s < sections + ((Elf64_Ehdr *)image.bytes)->e_shnum; s++)
        if (s->sh_type == SHT_DYNSYM)
            s->sh_type = SHT_PROGBITS;
    assert_non_null(image.sum);
    return image;
}

/* The function `sum` of the bent file, or NULL; all others have to be there. */
static const struct tl_function *look(struct image *image, struct tl_object **object)
{
    struct tl_error error = {0};
    const struct tl_function *function, *other;
    if (tl_object_open_memory(image->bytes, image->size, "bent", object, &error) < 0)
        fail_msg("%s", error.text);
    assert_int_equal(named(*object, "main", &other), 1);
    assert_int_equal(named(*object, "twin", &other), 2);
    size_t found = named(*object, "sum", &function);
    free(image->bytes);
    return found ? function : NULL;
}

static void a_size_beyond_the_segment_is_cut(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0x100000, UINT64_MAX, UINT64_MAX - 0x2000};
    for (size_t i = 0; i < 3; i++) {
        struct image image = load();
        struct tl_object *object;
        size_t available;
        image.sum->st_size = sizes[i];
        const struct tl_function *sum = look(&image, &object);
        assert_non_null(sum);
        assert_non_null(tl_object_text(object, sum->addr, &available));
        assert_int_equal(sum->size, available);
        tl_object_close(object);
    }
}

static void a_size_of_nothing_is_the_frames(void **state)
{
    (void)state;
    struct image image = load();
    struct tl_object *object;
    uint64_t size = image.sum->st_size;
    image.sum->st_size = 0;
    const struct tl_function *sum = look(&image, &object);
    assert_non_null(sum);
    assert_int_equal(sum->size, size);
    tl_object_close(object);
}

static void what_is_not_code_is_no_function(void **state)
{
    (void)state;
    static const uint64_t places[] = {0, 0x100, UINT64_MAX, UINT64_MAX / 2};
    for (size_t i = 0; i < 4; i++) {
        struct image image = load();
        struct tl_object *object;
        image.sum->st_value = places[i];
        assert_null(look(&image, &object));
        tl_object_close(object);
    }
    struct image image = load();
    struct tl_object *object;
    image.sum->st_shndx = SHN_UNDEF;
    assert_null(look(&image, &object));
    tl_object_close(object);
    image = load();
    image.sum->st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT);
    assert_null(look(&image, &object));
    tl_object_close(object);
}

static void a_name_outside_its_table_is_left_out(void **state)
{
    (void)state;
    static const uint32_t names[] = {0x7fffffff, UINT32_MAX, 0};
    for (size_t i = 0; i < 3; i++) {
        struct image image = load();
        struct tl_object *object;
        image.sum->st_name = names[i];
        assert_null(look(&image, &object));
        tl_object_close(object);
    }
    /* A name that has no end. */
    struct image image = load();
    struct tl_object *object;
    image.bytes[image.strings->sh_offset + image.strings->sh_size - 1] = 'x';
    image.sum->st_name = (uint32_t)image.strings->sh_size - 1;
    assert_null(look(&image, &object));
    tl_object_close(object);
}

static void two_of_one_address_are_both_there(void **state)
{
    (void)state;
    struct image image = load();
    struct tl_object *object;
    const struct tl_function *main_function;
    for (size_t i = 0; i < image.count; i++)
        if (strcmp((char *)image.bytes + image.strings->sh_offset + image.symbols[i].st_name, "main") == 0)
            image.sum->st_value = image.symbols[i].st_value;
    const struct tl_function *sum = look(&image, &object);
    assert_non_null(sum);
    assert_int_equal(named(object, "main", &main_function), 1);
    assert_int_equal(main_function->addr, sum->addr);
    assert_int_equal(tl_object_function_at(object, sum->addr)->addr, sum->addr);
    tl_object_close(object);
}

/* Thousands of sections over each other, to be read again and again. */
static void a_file_cannot_make_us_read_it_for_ever(void **state)
{
    (void)state;
    enum { COUNT = 4000 };
    struct image image = load();
    size_t table_at = (image.size + 7) & ~(size_t)7, size = table_at + COUNT * sizeof(Elf64_Shdr);
    uint8_t *bytes = calloc(1, size);
    memcpy(bytes, image.bytes, image.size);
    Elf64_Ehdr *header = (void *)bytes;
    Elf64_Shdr *sections = (void *)(bytes + table_at);
    for (size_t i = 1; i < COUNT; i++)
        sections[i] = (Elf64_Shdr){.sh_type = i % 2 ? SHT_NOTE : SHT_RELA,
                                   .sh_flags = SHF_ALLOC,
                                   .sh_offset = i,
                                   .sh_size = size - i,
                                   .sh_entsize = sizeof(Elf64_Rela)};
    header->e_shoff = table_at;
    header->e_shnum = COUNT;
    header->e_shstrndx = 0;
    struct tl_object *object;
    struct tl_error error = {0};
    if (tl_object_open_memory(bytes, size, "greedy", &object, &error) < 0)
        fail_msg("%s", error.text);
    size_t count;
    tl_object_functions(object, &count);
    object_need_relocations(object);
    assert_true(object->bytes_read <= 5 * size);
    tl_object_close(object);
    free(bytes);
    free(image.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_size_beyond_the_segment_is_cut),
        cmocka_unit_test(a_size_of_nothing_is_the_frames),
        cmocka_unit_test(what_is_not_code_is_no_function),
        cmocka_unit_test(a_name_outside_its_table_is_left_out),
        cmocka_unit_test(a_file_cannot_make_us_read_it_for_ever),
        cmocka_unit_test(two_of_one_address_are_both_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
