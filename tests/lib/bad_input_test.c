/* SPDX-License-Identifier: MIT
 *
 * Each bad input gives its documented error and changes nothing: not the text, not the mappings, not who is registered.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kit.h"

static int on_hit(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    return 0;
}

static void on_return(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance;
    (void)regs;
}

static struct tl_probe good(void)
{
    return (struct tl_probe){.size = sizeof(struct tl_probe), .symbol = "kit_add", .pre = on_hit};
}

/* Mappings, without how far the heap and the stack have grown. */
static unsigned long mappings(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned long sum = 0;
    while (!KIT_ASAN && fgets(line, sizeof line, file))
        if (!strstr(line, "[heap]") && !strstr(line, "[stack]"))
            sum += kit_text_sum(line, strlen(line));
    fclose(file);
    return sum;
}

static void refused(struct tl_probe *probe, int expected, const char *what)
{
    struct tl_error error = {.text = ""};
    unsigned long text = kit_text_sum((char *)((uintptr_t)kit_add_entry & ~4095ul), 4096), maps = mappings();
    int code = tl_probe_register(probe, &error);
    if (code != expected)
        fail_msg("%s: %d and not %d: %s", what, code, expected, error.text);
    assert_int_equal(error.code, expected);
    assert_true(strlen(error.text) > 0);
    if (probe)
        assert_int_equal(tl_probe_unregister(probe), -ENOENT);
    if (maps != mappings())
        fail_msg("%s: mappings have changed", what);
    assert_int_equal(kit_text_sum((char *)((uintptr_t)kit_add_entry & ~4095ul), 4096), text);
}

static void at(const void *address, int expected, const char *what)
{
    struct tl_probe probe = {.size = sizeof probe, .address = (void *)(uintptr_t)address, .pre = on_hit};
    refused(&probe, expected, what);
}

static void addresses(void **state)
{
    (void)state;
    long on_stack = 0;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct tl_probe probe = good();
    kit_register(&probe); /* so that what the first registration sets up is there */
    at(NULL, -EINVAL, "address 0");
    at((void *)0xffffffff81000000, -EFAULT, "a kernel address");
    at((void *)0x800000000000, -EFAULT, "no address at all");
    at((void *)4096, -EFAULT, "not mapped");
    at(&on_stack, -EACCES, "the stack");
    at(&probe, -EACCES, "the stack again");
    at(stdout, -EACCES, "data of a library");
    at(page, -EILSEQ, "code of no file");
    at(kit_add_body + 1, -EILSEQ, "inside an instruction");
    at(kit_data, -EILSEQ, "data in the text");
    at(kit_data + 8, -EILSEQ, "data in the text");
    kit_unregister(&probe);
    munmap(page, 4096);
}

static void symbols(void **state)
{
    (void)state;
    struct tl_probe probe = good();
    probe.symbol = "no_such_function";
    refused(&probe, -ENOENT, "no such function");
    probe.symbol = "kit_*";
    refused(&probe, -ENOENT, "a pattern");
    probe.symbol = "";
    refused(&probe, -ENOENT, "an empty name");
    static const char *const names[] = {"accept",
                                        "sigprocmask"}; /* functions of the library's own are called so, too */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        probe = good();
        probe.symbol = names[i];
        kit_register(&probe);
        kit_unregister(&probe);
    }
    probe = good();
    probe.module = "libnothing.so";
    refused(&probe, -ENOENT, "no such module");
    probe.module = "libc.so.6";
    refused(&probe, -ENOENT, "in another module");
    probe = good();
    probe.offset = 1;
    refused(&probe, -EILSEQ, "an offset into an instruction");
    probe.offset = (uint64_t)(kit_add_ret + 1 - kit_add_entry);
    refused(&probe, -EINVAL, "an offset behind the function");
    probe.offset = 1ul << 40;
    refused(&probe, -EINVAL, "an offset to nowhere");
    probe.offset = (uint64_t)-4096;
    refused(&probe, -EINVAL, "an offset backwards");
    probe.offset = 0;
    probe.symbol = "environ";
    refused(&probe, -ENOENT, "a variable");
    probe = good();
    probe.address = kit_add_entry;
    refused(&probe, -EINVAL, "a symbol and an address");
    probe.symbol = NULL;
    probe.offset = 4;
    refused(&probe, -EINVAL, "an address and an offset");
    probe.symbol = NULL;
    probe.address = NULL;
    probe.offset = 0;
    refused(&probe, -EINVAL, "no place");
}

static void structs(void **state)
{
    (void)state;
    struct {
        struct tl_probe probe;
        uint64_t more[4];
    } newer = {.probe = good()};
    struct tl_probe probe = good();
    refused(NULL, -EINVAL, "NULL");
    probe.pre = NULL;
    refused(&probe, -EINVAL, "no handler");
    probe = good();
    probe.flags = 1u << 30;
    refused(&probe, -EINVAL, "unknown flags");
    probe.flags = TL_PROBE_INT3 | TL_PROBE_JUMP;
    refused(&probe, -EINVAL, "contradictory flags");
    probe = good();
    probe.size = 0;
    refused(&probe, -EINVAL, "size 0");
    probe.size = sizeof probe - 8;
    refused(&probe, -EINVAL, "older than any version");
    newer.probe.size = sizeof newer;
    newer.more[3] = 1;
    refused(&newer.probe, -E2BIG, "newer, and used");
    newer.more[3] = 0;
    kit_register(&newer.probe); /* newer, but nothing new is used */
    kit_unregister(&newer.probe);
    newer.probe.size = 1ul << 40;
    refused(&newer.probe, -E2BIG, "a size that is none");
    newer.probe.size = TL_STRUCT_MAX + 1;
    refused(&newer.probe, -E2BIG, "larger than any struct");
    newer.probe.size = (size_t)-1;
    refused(&newer.probe, -E2BIG, "a size that is none");
}

static void doubles_and_strangers(void **state)
{
    (void)state;
    struct tl_probe probe = good(), stranger = good();
    struct tl_return_probe other = {.size = sizeof other, .symbol = "kit_add", .handler = on_return};
    uint64_t missed;
    assert_int_equal(tl_probe_unregister(&probe), -ENOENT);
    kit_register(&probe);
    assert_int_equal(tl_probe_register(&probe, NULL), -EEXIST);
    assert_int_equal(tl_probe_unregister(&stranger), -ENOENT);
    assert_int_equal(tl_probe_unregister(NULL), -ENOENT);
    assert_int_equal(tl_probe_enable(&stranger), -ENOENT);
    assert_int_equal(tl_probe_disable(&stranger), -ENOENT);
    assert_int_equal(tl_probe_missed(&stranger, &missed), -ENOENT);
    assert_int_equal(tl_probe_place(&stranger, NULL, NULL), -ENOENT);
    assert_int_equal(tl_return_probe_unregister(&other), -ENOENT);
    assert_int_equal(tl_return_probe_unregister((struct tl_return_probe *)(void *)&probe), -ENOENT);
    kit_unregister(&probe);
    assert_int_equal(tl_probe_unregister(&probe), -ENOENT);
}

static void batches_name_the_one_that_fails(void **state)
{
    (void)state;
    struct tl_probe probes[4] = {good(), good(), good(), good()}, *list[4];
    size_t failed = 99;
    unsigned long text = kit_text_sum(kit_add_entry, 16);
    for (int i = 0; i < 4; i++)
        list[i] = &probes[i];
    probes[2].address = kit_data;
    probes[2].symbol = NULL;
    assert_int_equal(tl_probes_register(list, 4, &failed, NULL), -EILSEQ);
    assert_int_equal(failed, 2);
    probes[2] = good();
    probes[3].size = 3;
    assert_int_equal(tl_probes_register(list, 4, &failed, NULL), -EINVAL);
    assert_int_equal(failed, 3);
    probes[3] = good();
    list[3] = list[1];
    assert_int_equal(tl_probes_register(list, 4, &failed, NULL), -EEXIST);
    assert_int_equal(failed, 3);
    for (int i = 0; i < 4; i++)
        assert_int_equal(tl_probe_unregister(&probes[i]), -ENOENT);
    assert_int_equal(kit_text_sum(kit_add_entry, 16), text);
    assert_int_equal(tl_probes_register(NULL, 2, &failed, NULL), -EINVAL);
    assert_int_equal(failed, 2);
    assert_int_equal(tl_probes_unregister(NULL, 7, &failed), -EINVAL);
    assert_int_equal(failed, 7);
    assert_int_equal(tl_probes_register(NULL, 0, &failed, NULL), 0);
    list[3] = &probes[3];
    assert_int_equal(tl_probes_register(list, 3, &failed, NULL), 0);
    assert_int_equal(tl_probes_unregister(list, 4, &failed), -ENOENT);
    assert_int_equal(failed, 3);
    list[2] = list[1];
    assert_int_equal(tl_probes_unregister(list, 3, &failed), -ENOENT);
    assert_int_equal(failed, 2);
    list[2] = &probes[2];
    assert_int_equal(tl_probes_unregister(list, 3, &failed), 0);
    assert_int_equal(kit_text_sum(kit_add_entry, 16), text);
}

static void return_and_jump_probes(void **state)
{
    (void)state;
    struct tl_error error;
    const struct tl_return_probe sound = {.size = sizeof sound, .symbol = "kit_add", .handler = on_return};
    struct tl_return_probe bad = sound;
    bad.handler = NULL;
    assert_int_equal(tl_return_probe_register(&bad, &error), -EINVAL);
    bad = sound;
    bad.data_size = TL_RETURN_DATA_MAX + 1;
    assert_int_equal(tl_return_probe_register(&bad, &error), -EINVAL);
    bad = sound;
    bad.max_active = TL_RETURN_ACTIVE_MAX + 1;
    assert_int_equal(tl_return_probe_register(&bad, &error), -EINVAL);
    bad = sound;
    bad.reserved = 1;
    assert_int_equal(tl_return_probe_register(&bad, &error), -EINVAL);
    bad = sound;
    bad.offset = (uint64_t)(kit_add_body - kit_add_entry);
    assert_int_equal(tl_return_probe_register(&bad, &error), -EILSEQ);
    struct tl_jump_probe jump = {.size = sizeof jump, .symbol = "kit_add"};
    assert_int_equal(tl_jump_probe_register(&jump, &error), -EINVAL);
    jump.handler = TL_JUMP_HANDLER(kit_add);
    jump.stack_bytes = TL_JUMP_STACK_MAX + 1;
    assert_int_equal(tl_jump_probe_register(&jump, &error), -EINVAL);
    jump.stack_bytes = 0;
    jump.flags = TL_PROBE_GENERAL;
    assert_int_equal(tl_jump_probe_register(&jump, &error), -EINVAL);
    jump.flags = 0;
    jump.offset = 1;
    assert_int_equal(tl_jump_probe_register(&jump, &error), -EILSEQ);
}

/* Somebody else has a breakpoint there. */
static void foreign_breakpoint(void **state)
{
    (void)state;
    uint8_t *page = (uint8_t *)((uintptr_t)kit_add_entry & ~4095ul), kept = *(uint8_t *)kit_add_entry;
    assert_int_equal(mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
    *(uint8_t *)kit_add_entry = 0xcc;
    at(kit_add_entry, -EBUSY, "a foreign breakpoint");
    *(uint8_t *)kit_add_entry = kept;
    assert_int_equal(mprotect(page, 8192, PROT_READ | PROT_EXEC), 0);
    struct tl_probe probe = good();
    kit_register(&probe);
    kit_unregister(&probe);
}

static void what_handlers_stand_on(void **state)
{
    (void)state;
    at((const void *)(uintptr_t)tl_probe_register, -EPERM, "the library itself");
    at((const void *)(uintptr_t)tl_version, -EPERM, "the library itself");
    struct tl_probe probe = good();
    probe.symbol = "__restore_rt";
    struct tl_error error;
    int code = tl_probe_register(&probe, &error);
    assert_true(code == -EPERM || code == -ENOENT); /* stripped libraries do not name it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses),
        cmocka_unit_test(symbols),
        cmocka_unit_test(structs),
        cmocka_unit_test(doubles_and_strangers),
        cmocka_unit_test(batches_name_the_one_that_fails),
        cmocka_unit_test(return_and_jump_probes),
        cmocka_unit_test(foreign_breakpoint),
        cmocka_unit_test(what_handlers_stand_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
