/* SPDX-License-Identifier: MIT
 *
 * Each shape of a probe spec means what people who paste it expect.
 */
#include "kit.h"

#define ANY "(any)"

struct expectation {
    const char *text, *module, *symbol;
    uint64_t offset;
    enum tl_where where;
    bool is_return, is_glob;
};

static void expect(const struct expectation *expected, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct expectation *e = &expected[i];
        struct tl_spec *spec = kit_parse(e->text);
        assert_string_equal(spec->text, e->text);
        assert_string_equal(spec->module ? spec->module : ANY, e->module);
        assert_string_equal(spec->symbol ? spec->symbol : "", e->symbol);
        assert_int_equal(spec->offset, e->offset);
        assert_int_equal(spec->where, e->where);
        assert_int_equal(spec->is_return, e->is_return);
        assert_int_equal(spec->is_glob, e->is_glob);
        tl_spec_free(spec);
    }
}
#define EXPECT(...)                                                                                                    \
    const struct expectation all[] = {__VA_ARGS__};                                                                    \
    expect(all, sizeof all / sizeof *all)

static void uprobe_events(void **state)
{
    (void)state;
    EXPECT({"p /bin/bash:readline", "/bin/bash", "readline", 0, TL_WHERE_SYMBOL, false, false},
           {"p:readline /bin/bash:readline", "/bin/bash", "readline", 0, TL_WHERE_SYMBOL, false, false},
           {"r /bin/bash:readline", "/bin/bash", "readline", 0, TL_WHERE_SYMBOL, true, false},
           {"p /bin/bash:readline%return", "/bin/bash", "readline", 0, TL_WHERE_SYMBOL, true, false},
           {"r:g/e /bin/bash:readline+0%return", "/bin/bash", "readline", 0, TL_WHERE_SYMBOL, true, false},
           {"  p\t/bin/bash:readline+0x1f  ", "/bin/bash", "readline", 0x1f, TL_WHERE_SYMBOL, false, false},
           {"p /bin/bash:0x4245c0", "/bin/bash", "", 0x4245c0, TL_WHERE_FILE_OFFSET, false, false},
           {"p /bin/bash:4096", "/bin/bash", "", 4096, TL_WHERE_FILE_OFFSET, false, false},
           {"p /bin/bash:0x4245c0%return", "/bin/bash", "", 0x4245c0, TL_WHERE_FILE_OFFSET, true, false},
           {"p /a:b/c:main", "/a:b/c", "main", 0, TL_WHERE_SYMBOL, false, false},
           {"p libc.so.6:str*", "libc.so.6", "str*", 0, TL_WHERE_SYMBOL, false, true},
           {"p EXE:main", "EXE", "main", 0, TL_WHERE_SYMBOL, false, false},
           {"p *:malloc", ANY, "malloc", 0, TL_WHERE_SYMBOL, false, false},
           {"p /tmp/\xc3\xa9:f\xc3\xa9", "/tmp/\xc3\xa9", "f\xc3\xa9", 0, TL_WHERE_SYMBOL, false, false});
}

static void bpftrace(void **state)
{
    (void)state;
    EXPECT({"uprobe:/bin/bash:readline", "/bin/bash", "readline", 0, TL_WHERE_SYMBOL, false, false},
           {"uprobe:/bin/bash:readline+4", "/bin/bash", "readline", 4, TL_WHERE_SYMBOL, false, false},
           {"uretprobe:/bin/bash:readline", "/bin/bash", "readline", 0, TL_WHERE_SYMBOL, true, false},
           {"uprobe:/usr/lib/*:str*", "/usr/lib/*", "str*", 0, TL_WHERE_SYMBOL, false, true},
           {"uprobe:libc:malloc", "libc", "malloc", 0, TL_WHERE_SYMBOL, false, false},
           {"uprobe:*:malloc", ANY, "malloc", 0, TL_WHERE_SYMBOL, false, false},
           {"uprobe:/bin/bash:0x4245c0", "/bin/bash", "", 0x4245c0, TL_WHERE_ADDRESS, false, false},
           {"u:libc:malloc", "libc", "malloc", 0, TL_WHERE_SYMBOL, false, false},
           {"ur:libc:malloc", "libc", "malloc", 0, TL_WHERE_SYMBOL, true, false});
}

static void dtrace(void **state)
{
    (void)state;
    EXPECT({"pid$target:libc.so.6:malloc:entry", "libc.so.6", "malloc", 0, TL_WHERE_SYMBOL, false, false},
           {"pid$target::malloc:return", ANY, "malloc", 0, TL_WHERE_SYMBOL, true, false},
           {"pid$target:libc::entry", "libc", "*", 0, TL_WHERE_SYMBOL, false, true},
           {"pid$target:a.out:main:entry", "EXE", "main", 0, TL_WHERE_SYMBOL, false, false},
           {"pid$target:a.out:main:1c", "EXE", "main", 0x1c, TL_WHERE_SYMBOL, false, false},
           {"pid$target:a.out:main:0x1C", "EXE", "main", 0x1c, TL_WHERE_SYMBOL, false, false},
           {"pid$target:libc:ns::f:entry", "libc", "ns::f", 0, TL_WHERE_SYMBOL, false, false},
           {"pid77:libc:mem*:entry", "libc", "mem*", 0, TL_WHERE_SYMBOL, false, true});
}

static void frida_and_bare(void **state)
{
    (void)state;
    EXPECT({"libc.so.6!open*", "libc.so.6", "open*", 0, TL_WHERE_SYMBOL, false, true},
           {"*!open", ANY, "open", 0, TL_WHERE_SYMBOL, false, false},
           {"!open", ANY, "open", 0, TL_WHERE_SYMBOL, false, false},
           {"EXE!0x1139", "EXE", "", 0x1139, TL_WHERE_MODULE_OFFSET, false, false},
           {"EXE!main+8", "EXE", "main", 8, TL_WHERE_SYMBOL, false, false},
           {"EXE!type:.eq.main.T", "EXE", "type:.eq.main.T", 0, TL_WHERE_SYMBOL, false, false},
           {"libc!malloc%return", "libc", "malloc", 0, TL_WHERE_SYMBOL, true, false},
           {"malloc", ANY, "malloc", 0, TL_WHERE_SYMBOL, false, false},
           {"malloc+4", ANY, "malloc", 4, TL_WHERE_SYMBOL, false, false},
           {"malloc%return", ANY, "malloc", 0, TL_WHERE_SYMBOL, true, false},
           {"str*cpy", ANY, "str*cpy", 0, TL_WHERE_SYMBOL, false, true},
           {"mem[cm]py", ANY, "mem[cm]py", 0, TL_WHERE_SYMBOL, false, true},
           {"_ZN3foo3barEv", ANY, "_ZN3foo3barEv", 0, TL_WHERE_SYMBOL, false, false},
           {"memcpy@GLIBC_2.2.5", ANY, "memcpy@GLIBC_2.2.5", 0, TL_WHERE_SYMBOL, false, false},
           {"main.(*T).Get", ANY, "main.(*T).Get", 0, TL_WHERE_SYMBOL, false, true});
}

static void functions_called_p_and_r(void **state)
{
    (void)state;
    EXPECT({"p", ANY, "p", 0, TL_WHERE_SYMBOL, false, false}, {"r %di:u8", ANY, "r", 0, TL_WHERE_SYMBOL, false, false},
           {"p n=$arg1", ANY, "p", 0, TL_WHERE_SYMBOL, false, false},
           {"r if pid == 3", ANY, "r", 0, TL_WHERE_SYMBOL, false, false},
           {"pid", ANY, "pid", 0, TL_WHERE_SYMBOL, false, false},
           {"pid2name", ANY, "pid2name", 0, TL_WHERE_SYMBOL, false, false},
           {"print", ANY, "print", 0, TL_WHERE_SYMBOL, false, false});
}

static void names_of_events(void **state)
{
    (void)state;
    static const struct {
        const char *text, *group, *event;
    } all[] = {{"p /x:y", NULL, NULL},       {"p:ev /x:y", NULL, "ev"},      {"p:g/ev /x:y", "g", "ev"},
               {"p:g-1/ /x:y", "g-1", NULL}, {"r:_g/e_2 /x:y", "_g", "e_2"}, {"malloc", NULL, NULL}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct tl_spec *spec = kit_parse(all[i].text);
        assert_string_equal(spec->group ? spec->group : "-", all[i].group ? all[i].group : "-");
        assert_string_equal(spec->event ? spec->event : "-", all[i].event ? all[i].event : "-");
        tl_spec_free(spec);
    }
}

static void dtrace_offsets_are_exact_and_pids_are_kept(void **state)
{
    (void)state;
    struct tl_spec *spec = kit_parse("pid4711:libc:malloc:4");
    assert_int_equal(spec->pid, 4711);
    assert_true(spec->every_entry_offset);
    tl_spec_free(spec);
    spec = kit_parse("pid$target:libc:malloc:entry");
    assert_int_equal(spec->pid, 0);
    assert_false(spec->every_entry_offset);
    tl_spec_free(spec);
}

static void arguments_follow_every_shape(void **state)
{
    (void)state;
    static const char *const probes[] = {"p /x:y", "uprobe:/x:y", "pid$target:x:y:entry", "x!y", "y"};
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        char text[120];
        snprintf(text, sizeof text, "%s size=$arg1:u64 %%si if size > 100", probes[i]);
        struct tl_spec *spec = kit_parse(text);
        assert_int_equal(spec->arg_count, 2);
        assert_string_equal(spec->args[0].name, "size");
        assert_int_equal(spec->args[0].show, TL_SHOW_UNSIGNED);
        assert_string_equal(spec->args[1].name, "arg2");
        assert_int_equal(spec->args[1].show, TL_SHOW_HEX);
        assert_int_equal(spec->args[1].slot, 1);
        assert_non_null(spec->filter);
        tl_spec_free(spec);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uprobe_events),
        cmocka_unit_test(bpftrace),
        cmocka_unit_test(dtrace),
        cmocka_unit_test(frida_and_bare),
        cmocka_unit_test(functions_called_p_and_r),
        cmocka_unit_test(names_of_events),
        cmocka_unit_test(dtrace_offsets_are_exact_and_pids_are_kept),
        cmocka_unit_test(arguments_follow_every_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
