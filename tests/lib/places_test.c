/* SPDX-License-Identifier: MIT
 *
 * Whole functions, each instruction of them probed before and behind, calls and jumps and rets too; neighbours that
 * come one by one and go in another order; many at once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kit.h"
#include "many.h"

enum { MOST = 2048, SINGLE = 4000 };
static struct tl_probe probes[MOST];
static unsigned long pres, posts;

static int count_pre(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    pres++;
    return 0;
}

static void count_post(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    posts++;
}

/* Probe what is an instruction, from offset 0 to `size` of a symbol. Returns how many probes[] there are then. */
static unsigned probe_all(unsigned used, const char *module, const char *symbol, unsigned size, uint64_t flags)
{
    for (unsigned offset = 0; offset < size && used < MOST; offset++) {
        probes[used] = (struct tl_probe){.size = sizeof probes[0],
                                         .flags = flags,
                                         .symbol = symbol,
                                         .module = module,
                                         .offset = offset,
                                         .pre = count_pre,
                                         .post = count_post};
        int code = tl_probe_register(&probes[used], NULL);
        if (code == -EINVAL && offset) /* its end */
            break;
        if (code && code != -EILSEQ)
            fail_msg("%s+%u: %d", symbol, offset, code);
        used += !code;
    }
    return used;
}

static void unprobe(unsigned used)
{
    /* Odd ones first. */
    for (unsigned i = 1; i < used; i += 2)
        kit_unregister(&probes[i]);
    for (unsigned i = 0; i < used; i += 2)
        kit_unregister(&probes[i]);
}

static void use_kit(void)
{
    assert_int_equal(kit_add(1, 2), 4);
    assert_int_equal(kit_call(7), 15);
    assert_int_equal(kit_branch(5), 1);
    assert_int_equal(kit_branch(-5), -1);
    assert_int_equal(kit_tail(3), 7);
    assert_int_equal(kit_switch(2), 12);
    assert_int_equal(kit_switch(3), 7);
    assert_int_equal(kit_many(1, 2, 3, 4, 5, 6, 7, 8), 20);
    assert_true(kit_half(3, 1) == 2.5);
    assert_int_equal(kit_deep(5), 5);
}

/* Instructions executed in use_kit, by hand: see sites.S. */
enum {
    ADD = 3,
    CALL = 5 + ADD,
    BRANCH = 4 + 5,
    TAIL = 2 + ADD,
    SWITCH = 5 + 2 + 5 + ADD,
    MANY = 8,
    HALF = 4,
    DEEP = 5 * 9 + 4
};

static void each_instruction_of_ours(void **state)
{
    static const struct {
        const char *name;
        unsigned size;
    } functions[] = {{"kit_add", 8},     {"kit_call", 17}, {"kit_branch", 18}, {"kit_tail", 8},
                     {"kit_switch", 40}, {"kit_many", 32}, {"kit_half", 18},   {"kit_deep", 22}};
    unsigned used = 0;
    for (unsigned i = 0; i < sizeof functions / sizeof *functions; i++)
        used = probe_all(used, "EXE", functions[i].name, functions[i].size, *(const uint64_t *)*state);
    pres = posts = 0;
    use_kit();
    assert_int_equal(pres, ADD + CALL + BRANCH + TAIL + SWITCH + MANY + HALF + DEEP);
    assert_int_equal(posts, pres);
    unprobe(used);
    pres = 0;
    use_kit();
    assert_int_equal(pres, 0);
}

static int ascending(const void *left, const void *right)
{
    int a = *(const int *)left, b = *(const int *)right;
    return (a > b) - (a < b);
}

static void each_instruction_of_a_library_function(void **state)
{
    int numbers[100];
    unsigned used = probe_all(0, "libc", "qsort_r", 300, *(const uint64_t *)*state);
    used = probe_all(used, "libc", "div", 16, *(const uint64_t *)*state);
    assert_true(used > 60);
    pres = posts = 0;
    for (int i = 0; i < 100; i++)
        numbers[i] = (i * 37) % 101;
    qsort(numbers, 100, sizeof *numbers, ascending);
    for (int i = 1; i < 100; i++)
        assert_true(numbers[i - 1] <= numbers[i]);
    assert_true(pres > 50);
    assert_int_equal(posts, pres);
    unprobe(used);
}

static struct tl_probe all[10000], *list[10000];

/* How many mappings are executable: what probes need. Others come and go, the more so with a sanitizer's allocator. */
static unsigned executable(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char line[4200], access[5];
    unsigned count = 0;
    while (fgets(line, sizeof line, file))
        count += sscanf(line, "%*x-%*x %4s", access) == 1 && access[2] == 'x';
    fclose(file);
    return count;
}

static void ten_thousand_at_once(void **state)
{
    size_t failed;
    struct tl_error error = {.text = ""};
    for (unsigned turn = 0; turn < 2; turn++) {
        for (unsigned i = 0; i < many_count; i++) {
            all[i] = (struct tl_probe){.size = sizeof all[i],
                                       .flags = *(const uint64_t *)*state,
                                       .address = (void *)(uintptr_t)many[i],
                                       .pre = count_pre};
            list[i] = &all[i];
        }
        if (tl_probes_register(list, many_count, &failed, &error))
            fail_msg("%zu: %s", failed, error.text);
        pres = 0;
        for (unsigned i = 0; i < many_count; i++)
            assert_int_equal(many[i](i), (unsigned long)i * (i % 97 + 3) + i);
        assert_int_equal(pres, many_count);
        assert_int_equal(tl_probes_unregister(list, many_count, &failed), 0);
        for (unsigned i = 0; i < many_count; i++)
            many[i](i);
        assert_int_equal(pres, many_count);
    }
}

/* What single probes need stays within bounds, also where others were before them. */
static void thousands_one_by_one(void **state)
{
    (void)state;
    unsigned before = executable();
    for (unsigned i = 0; i < SINGLE; i++) {
        all[i] = (struct tl_probe){.size = sizeof all[i], .address = (void *)(uintptr_t)many[i], .pre = count_pre};
        list[i] = &all[i];
        kit_register(&all[i]);
    }
    assert_true(executable() <= before + 1200);
    pres = 0;
    for (unsigned i = 0; i < SINGLE; i++)
        assert_int_equal(many[i](i), (unsigned long)i * (i % 97 + 3) + i);
    assert_int_equal(pres, SINGLE);
    assert_int_equal(tl_probes_unregister(list, SINGLE, NULL), 0);
}

/* In and out again, thousands of times: memory for them is used again. */
static void one_after_the_other(void **state)
{
    struct tl_probe probe = {.size = sizeof probe, .flags = *(const uint64_t *)*state, .pre = count_pre};
    unsigned before = executable();
    for (unsigned i = 0; i < 1500; i++) {
        probe.address = (void *)(uintptr_t)many[i];
        kit_register(&probe);
        pres = 0;
        many[i](i);
        assert_int_equal(pres, 1);
        kit_unregister(&probe);
    }
    assert_true(executable() < before + 500);
}

/* Where it can be reached without a trap it is, whatever was asked for there before: nothing of that is in the way. */
static void a_trap_once_is_no_trap_for_good(void **state)
{
    static const uint64_t flags[] = {0, TL_PROBE_INT3, 0, TL_PROBE_INT3, TL_PROBE_JUMP};
    const char *first = NULL, *tactic;
    unsigned jumps = 0;
    (void)state;
    for (unsigned offset = 0; offset < 40; offset++)
        for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
            struct tl_probe probe = {
                .size = sizeof probe, .flags = flags[i], .symbol = "kit_switch", .offset = offset, .pre = count_pre};
            int code = tl_probe_register(&probe, NULL);
            if (!i && code)
                break; /* no instruction */
            if (!code)
                assert_int_equal(tl_probe_place(&probe, NULL, &tactic), 0);
            if (!i)
                first = tactic;
            if (flags[i] == TL_PROBE_INT3)
                assert_string_equal(tactic, "int3");
            else if (strcmp(first, "int3") != 0 || !code)
                assert_string_equal(code ? "refused" : tactic, first);
            jumps += flags[i] == TL_PROBE_JUMP && !code;
            if (!code)
                kit_unregister(&probe);
        }
    assert_true(jumps > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_WAYS(each_instruction_of_ours),    BOTH_WAYS(each_instruction_of_a_library_function),
        BOTH_WAYS(ten_thousand_at_once),        BOTH_WAYS(one_after_the_other),
        cmocka_unit_test(thousands_one_by_one), cmocka_unit_test(a_trap_once_is_no_trap_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
