/* SPDX-License-Identifier: MIT
 *
 * The kernel's list of symbols: names to addresses and back, and lists that are odd.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support.h"
#include "symbol/kernel.h"

static char path[] = "/tmp/kallsyms-XXXXXX";
static struct tl_error error;

/* `variables`: as many as a kernel has that lists them. */
static int read_list(const char *text, bool variables, struct tl_kernel_symbols **symbols)
{
    strcpy(path + sizeof path - 7, "XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    fputs(text, file);
    for (unsigned i = 0; variables && i < 2000; i++)
        fprintf(file, "ffffffff84%06x d variable_%u\n", i * 8, i);
    fclose(file);
    int result = tl_kernel_symbols_read(path, symbols, &error);
    unlink(path);
    return result;
}

static const char some[] = "ffffffff81000000 T _text\n"
                           "ffffffff81000000 T startup\n"
                           "ffffffff81000100 t helper\n"
                           "ffffffff81000200 t twice\n"
                           "ffffffff81000300 t twice\n"
                           "ffffffffc0000000 t in_module\t[nf_tables]\n"
                           "nonsense\n\nffffffff8100\nffffffff81000400 \n"
                           "ffffffff81000400 B jiffies\n";

static void names_and_addresses(void **state)
{
    struct tl_kernel_symbols *symbols;
    uint64_t addr;
    char text[64];
    (void)state;
    assert_int_equal(read_list(some, true, &symbols), 0);
    assert_int_equal(tl_kernel_find(symbols, "jiffies", &addr, &error), 0);
    assert_int_equal(addr, 0xffffffff81000400);
    assert_int_equal(tl_kernel_find(symbols, "in_module", &addr, &error), 0);
    assert_int_equal(addr, 0xffffffffc0000000);
    assert_int_equal(tl_kernel_find(symbols, "twice", &addr, &error), -ENOTUNIQ);
    assert_int_equal(tl_kernel_find(symbols, "jiffie", &addr, &error), -ENOENT);
    assert_non_null(strstr(error.text, "did you mean jiffies"));
    tl_kernel_describe(symbols, 0xffffffff81000012, text, sizeof text);
    assert_string_equal(text, "_text+0x12");
    tl_kernel_describe(symbols, 0xffffffff81000100, text, sizeof text);
    assert_string_equal(text, "helper+0x0");
    tl_kernel_describe(symbols, 0xffffffffc0000008, text, sizeof text);
    assert_string_equal(text, "in_module+0x8 [nf_tables]");
    tl_kernel_describe(symbols, 0x1000, text, sizeof text);
    assert_string_equal(text, "0x1000");
    tl_kernel_describe(symbols, UINT64_MAX, text, sizeof text);
    assert_string_equal(text, "0xffffffffffffffff");
    tl_kernel_symbols_free(symbols);
}

static void lists_that_tell_little(void **state)
{
    struct tl_kernel_symbols *symbols;
    uint64_t addr;
    (void)state;
    assert_int_equal(read_list(some, false, &symbols), 0);
    assert_int_equal(tl_kernel_find(symbols, "helper", &addr, &error), 0);
    assert_int_equal(tl_kernel_find(symbols, "jiffie", &addr, &error), -ENOENT);
    assert_non_null(strstr(error.text, "CONFIG_KALLSYMS_ALL"));
    tl_kernel_symbols_free(symbols);
    assert_int_equal(read_list("0000000000000000 T _text\n0000000000000000 T helper\n", false, &symbols), -EPERM);
    assert_non_null(strstr(error.text, "kptr_restrict"));
    assert_int_equal(read_list("", false, &symbols), -ENOENT);
    assert_int_equal(read_list("no\nlist\n", false, &symbols), -ENOENT);
    assert_int_equal(tl_kernel_symbols_read("/nonexistent", &symbols, &error), -ENOENT);
    tl_kernel_symbols_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_addresses),
        cmocka_unit_test(lists_that_tell_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
