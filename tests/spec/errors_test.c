/* SPDX-License-Identifier: MIT
 *
 * A mistake is pointed at where it is, and the message says what would have been right. In each line below `^^`
 * stands in front of the character that the caret has to stand under; it is not part of the spec.
 */
#include "kit.h"

struct mistake {
    const char *marked, *says;
};

static void expect_code(const struct mistake *mistakes, size_t count, int code)
{
    for (size_t i = 0; i < count; i++) {
        char text[400];
        const char *marked = mistakes[i].marked, *mark = strstr(marked, "^^");
        assert_non_null(mark);
        snprintf(text, sizeof text, "%.*s%s", (int)(mark - marked), marked, mark + 2);
        struct tl_spec *spec = NULL;
        struct tl_error error = {0};
        int result = tl_spec_parse(text, &spec, &error);
        if (result != code || error.code != code)
            fail_msg("\"%s\": %d (%s)", text, result, error.text);
        if (error.column != mark - marked || !strstr(error.text, mistakes[i].says))
            fail_msg("\"%s\": column %d, not %d, saying \"%s\", not \"%s\"", text, error.column, (int)(mark - marked),
                     error.text, mistakes[i].says);
        assert_int_equal(strncmp(error.text, "expected ", 9), 0);
        assert_null(spec);
    }
}
#define EXPECT(code, ...)                                                                                              \
    const struct mistake all[] = {__VA_ARGS__};                                                                        \
    expect_code(all, sizeof all / sizeof *all, code)

static void in_probes(void **state)
{
    (void)state;
    EXPECT(-EINVAL, {"^^", "a probe"}, {"   ^^", "a probe"}, {"^^if pid == 3", "a probe"}, {"p:e ^^", "PATH:SYMBOL"},
           {"p /bin/ls^^", "':'"}, {"p ^^:main", "a path"}, {"p /bin/ls:^^", "a function's name"},
           {"p:^^ /bin/ls:main", "an event's name"}, {"p:^^/e /bin/ls:main", "a group's name"},
           {"p:^^1e /bin/ls:main", "an event's name"}, {"p:a^^.b /bin/ls:main", "letters"},
           {"p:a/b^^/c /bin/ls:main", "letters"},
           {"p:^^a23456789b123456789c123456789d123456789e123456789f123456789g1234 /x:y", "at most 63"},
           {"r^^10:x /bin/ls:main", "':' or a blank"}, {"p /bin/ls:0x12^^z", "the end of an offset"},
           {"p /bin/ls:0x^^", "a digit"}, {"p /bin/ls:0^^91", "base 8"}, {"p /bin/ls:^^0x1ffffffffffffffff", "64 bits"},
           {"p /bin/ls:main+^^", "an offset"}, {"p /bin/ls:main+^^x", "an offset"},
           {"p /bin/ls:main%^^retrun", "return"}, {"r /bin/ls:main^^+4", "no offset"},
           {"p /bin/ls:main^^+4%return", "no offset"}, {"p /bin/ls:a^^=b", "a function's name"},
           {"uprobe:^^", "a path"}, {"uprobe:/bin/ls^^", "':'"}, {"uprobe:^^:main", "a path"},
           {"uprobe:/bin/ls:^^", "a function's name"}, {"uprobe:/bin/ls:main+^^z", "an offset"},
           {"uprobe:/bin/ls:main^^%return", "a function's name"}, {"uretprobe:/bin/ls:main^^+1", "no offset"},
           {"pid^^$targ:x:y:entry", "$target"}, {"pid^^0:x:y:entry", "at least 1"}, {"pid$target^^", "':'"},
           {"pid$target:x^^", "':'"}, {"pid$target:x:y^^", "':'"}, {"pid$target:x:y:^^", "entry, return"},
           {"pid$target:x:y:^^exit", "entry, return"}, {"pid$target:x:y:^^0x", "entry, return"},
           {"pid$target:x:y:^^12345678123456781", "64 bits"}, {"pid^^99999999999:x:y:entry", "a process id"},
           {"libc!^^", "a function's name"}, {"libc!^^0x1ffffffffffffffff", "64 bits"},
           {"libc!0x12^^,", "the end of an offset"}, {"malloc^^,free", "one function's name"},
           {"libc^^:malloc", "FILE!FUNCTION"}, {"^^0x1234", "an address needs its file"},
           {"^^%di", "a function or a probe first"}, {"^^size=%di malloc", "a function or a probe first"},
           {"f^^{}", "a function's name"}, {"f^^\"", "a function's name"}, {"f^^\x01", "0x01"},
           {"/bin/l^^\x7fs!f", "0x7f"});
}

static void in_what_is_fetched(void **state)
{
    (void)state;
    EXPECT(
        -EINVAL, {"f %^^xx", "a register"}, {"f %^^", "a register"}, {"f %^^axl", "a register"},
        {"f %^^r16", "a register"}, {"f %^^r08", "a register"}, {"f %^^r8x", "a register"}, {"f %^^ral", "a register"},
        {"f %^^ch1", "a register"}, {"f %di:^^", "a type"}, {"f %di:^^u7", "a type"}, {"f %di:^^U8", "a type"},
        {"f %di:^^u640", "a type"}, {"f %di:^^b", "a type"}, {"f %di:b^^0@1/8", "at least one"}, {"f %di:b3^^", "'@'"},
        {"f %di:b3@^^x", "the offset"}, {"f %di:b3@1^^", "'/'"}, {"f %di:b3@1/^^9", "8, 16, 32 or 64"},
        {"f %di:b3@^^6/8", "within"}, {"f %di:b^^65@0/64", "at most 64"}, {"f $^^foo", "$argN"},
        {"f $^^retvalx", "$argN"}, {"f ^^$retval", "only a return"}, {"r /x:f ^^$arg1", "entry"},
        {"f+4 ^^$arg1", "entry"}, {"pid$target:x:y:4 +0(^^$arg1)", "entry"}, {"f $arg^^", "argument"},
        {"f $arg^^0", "at least 1"}, {"f $arg^^256", "at most 255"}, {"f $arg1^^x", "a blank"},
        {"f $stack^^4096", "at most 4095"}, {"f $^^stackx", "$argN"}, {"f @^^", "an address"},
        {"f @^^-1", "an address"}, {"f @+^^x", "an offset"}, {"f @0x^^", "a digit"}, {"f @a+^^b", "an offset"},
        {"f +^^(%di)", "an offset"}, {"f +^^x(%di)", "an offset"}, {"f +8^^", "'('"}, {"f +8^^%di", "'('"},
        {"f +8(^^", "something"}, {"f +8(%di^^", "')'"}, {"f +8(%di^^:u8)", "')'"}, {"f +8(%di)^^)", "a blank"},
        {"f +u^^(%di)", "an offset"}, {"f +^^0x8000000000000000(%di)", "at most"}, {"f +0(^^$comm)", "an address"},
        {"f +0(^^\\\"x\")", "an address"}, {"f \\^^", "a constant"}, {"f \\^^x", "a constant"},
        {"f \\-^^x", "an offset"}, {"f \\^^\"x", "closing"}, {"f \\\"a\\^^q\"", "escape"},
        {"f \\\"a^^\\0\"", "zero byte"}, {"f $comm:^^u8", "string"}, {"f \\\"x\":^^u8", "string"},
        {"f %di^^%si", "a blank"}, {"f %di:^^u8x", "a type"}, {"f %di:u8^^,", "a blank"}, {"f ^^size", "something"},
        {"f a=^^", "something"}, {"f a=^^b=%di", "something"}, {"f ^^a =%di", "something"},
        {"f a=%di ^^a=%si", "of its own"}, {"f arg2=%di ^^%si", "of its own"},
        {"f ^^a234567890123456789012345678901234=%di", "at most 31"}, {"f ^^\xff", "0xff"}, {"f %^^\xc3\xa9", "0xc3"},
        {"f +0(+0(+0(+0(+0(+0(+0(+0(+0(+0(+0(+0(+0(+0(+0(+0(^^+0(%di)))))))))))))))))", "at most 16"});
}

static void in_filters(void **state)
{
    (void)state;
    EXPECT(-EINVAL, {"f if^^", "a number"}, {"f if ^^", "a number"}, {"f if (^^", "a number"}, {"f if ^^)", "a number"},
           {"f if 1 +^^", "a number"}, {"f if ^^$arg1 > 3", "NAME=$arg1"}, {"f if 1 < ^^%di", "NAME=$arg1"},
           {"f if ^^(1", "closing ')'"}, {"f if (1 ^^2", "an operator"}, {"f if 1^^)", "an operator"},
           {"f if 1 ^^2", "an operator"}, {"f if pid ^^= 3", "=="}, {"f if (pid ^^= 3)", "=="},
           {"f a=%di if ^^b == 3", "a, pid or tid"}, {"f if ^^size", "pid or tid"},
           {"f if ^^comm == \"ls\"", "afterwards"}, {"f a=$comm if ^^a == \"ls\"", "afterwards"},
           {"f a=\\\"x\" if ^^a == \"x\"", "constant"}, {"f s=%di:string if ^^s", "only be compared"},
           {"f s=%di:string if s == ^^3", "double quotes"}, {"f s=%di:string if ^^s + 1 == 2", "only be compared"},
           {"f s=%di:string if ^^3 == s", "type string"}, {"f s=%di:string t=%si:string if s == ^^t", "double quotes"},
           {"f s=%di:string if ^^s < \"a\"", "only be compared"}, {"f s=%di if ^^s == \"a\"", "type string"},
           {"f s=%di if ^^s ~ 3", "type string"}, {"f s=%di:string if s ~ ^^pid", "double quotes"},
           {"f s=%di:string if s == ^^\"a", "closing"}, {"f if \"a\" == ^^\"a\"", "type string"},
           {"f if ^^\"a\"", "only be compared"}, {"f s=%di:string if !^^s", "only be compared"},
           {"f s=%di:string if +^^s", "only be compared"}, {"f s=%di:string if 1 && ^^s", "only be compared"},
           {"f if pid == 0x^^", "a digit"}, {"f if pid == ^^0x1ffffffffffffffff", "64 bits"},
           {"f if pid == ^^18446744073709551616", "64 bits"}, {"f if pid == 3^^k", "the end of the number"},
           {"f if pid == 0^^8", "base 8"}, {"f if pid == 1^^uu", "the end of the number"},
           {"f if pid == 1^^.5", "an operator"}, {"f if pid / ^^0", "not zero"}, {"f if pid % ^^0", "not zero"},
           {"f if pid << ^^64", "0 to 63"}, {"f if pid >> ^^-1", "0 to 63"}, {"f if pid == '^^'", "a character"},
           {"f if pid == 'a^^b'", "closing '"}, {"f if pid == '^^", "a character"}, {"f if pid == '\\^^q'", "escape"},
           {"f if pid == '^^\\777'", "at most"}, {"f if pid == ^^\x80", "0x80"}, {"f if pid ^^@ 3", "an operator"},
           {"f if pid^^; ", "an operator"});
}

static void what_is_understood_but_not_done(void **state)
{
    (void)state;
    EXPECT(-ENOTSUP, {"^^usdt:/bin/x:p:n", "usdt"}, {"^^usdt:/bin/x:n", "usdt"},
           {"^^kprobe:vfs_read", "not for the kernel"}, {"^^tracepoint:syscalls:sys_enter_read", "not for the kernel"},
           {"^^watchpoint:0x1000:8:w", "watch"}, {"f +0(%di):u8^^[4]", "arrays"}, {"f %di:string^^[2]", "arrays"},
           {"p /x:0x10^^(0x20)", "reference counter"});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_probes),
        cmocka_unit_test(in_what_is_fetched),
        cmocka_unit_test(in_filters),
        cmocka_unit_test(what_is_understood_but_not_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
