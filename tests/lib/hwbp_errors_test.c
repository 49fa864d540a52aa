/* SPDX-License-Identifier: MIT
 *
 * What cannot be watched, and why; and that what has failed has left nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hwbp_kit.h"

enum { SLOTS = 4, GOOD = 17, NOBODY = 65534 };
#define KERNEL ((void *)0xffffffff81000000)
static _Alignas(64) volatile uint64_t words[8];
static struct seen seen;

static int refused(const struct tl_hwbp_options *options)
{
    struct tl_error error = {.text = ""};
    struct tl_hwbp *hwbp = (struct tl_hwbp *)&seen;
    int code = tl_hwbp_create(options, &hwbp, &error);
    assert_null(hwbp);
    assert_int_equal(error.code, code);
    assert_true(error.text[0] != '\0');
    return code;
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

#define WITH(field, value)                                                                                             \
    ({                                                                                                                 \
        struct tl_hwbp_options changed = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);                                \
        changed.field = (value);                                                                                       \
        refused(&changed);                                                                                             \
    })

static void options_that_make_no_sense(void **state)
{
    (void)state;
    struct tl_hwbp *hwbp = NULL;
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
    struct {
        struct tl_hwbp_options options;
        uint64_t more;
    } newer = {options, 0};
    assert_int_equal(tl_hwbp_create(NULL, &hwbp, NULL), -EINVAL);
    assert_int_equal(tl_hwbp_create(&options, NULL, NULL), -EINVAL);
    assert_int_equal(WITH(size, sizeof options - 1), -EINVAL);
    assert_int_equal(WITH(size, 0), -EINVAL);
    assert_int_equal(WITH(flags, 1 << 4), -EINVAL);
    assert_int_equal(WITH(scope, TL_HWBP_WIDE + 1), -EINVAL);
    assert_int_equal(WITH(scope, TL_HWBP_WIDE), -EINVAL); /* with a handler */
    assert_int_equal(WITH(scope, TL_HWBP_CPU), -EINVAL);
    assert_int_equal(WITH(tid, gettid()), -EINVAL);
    assert_int_equal(WITH(cpu, 1), -EINVAL);
    assert_int_equal(WITH(flags, TL_HWBP_BRANCHES), -EOPNOTSUPP);
    options.handler = NULL;
    options.period = 2;
    assert_int_equal(refused(&options), -EINVAL);
    options.period = 0;
    options.scope = TL_HWBP_WIDE;
    options.flags = TL_HWBP_FORK;
    assert_int_equal(refused(&options), -EINVAL);
    newer.options.size = sizeof newer;
    newer.more = 1;
    assert_int_equal(refused(&newer.options), -E2BIG);
    newer.more = 0;
    kit_destroy(kit_create(&newer.options));
}

static void addresses_lengths_and_kinds_of_access(void **state)
{
    (void)state;
    static const unsigned lengths[] = {0, 3, 5, 6, 7, 9, 12};
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++)
        assert_int_equal(WITH(length, lengths[i]), -EINVAL);
    for (unsigned length = 2; length <= 8; length *= 2)
        for (unsigned offset = 1; offset < length; offset++) {
            struct tl_hwbp_options options =
                kit_watch((volatile char *)&words[1] + offset, length, TL_HWBP_WRITE, &seen);
            assert_int_equal(refused(&options), -EINVAL);
        }
    for (uint64_t length = 16; length && length <= 1ull << 62; length *= 16) {
        struct tl_hwbp_options options = kit_watch((void *)length, length, TL_HWBP_WRITE, &seen);
        assert_int_equal(refused(&options), -EOPNOTSUPP);
    }
    assert_int_equal(WITH(access, 0), -EINVAL);
    assert_int_equal(WITH(access, TL_HWBP_READ), -EINVAL);
    assert_int_equal(WITH(access, TL_HWBP_EXECUTE | TL_HWBP_WRITE), -EINVAL);
    assert_int_equal(WITH(access, 7), -EINVAL);
    assert_int_equal(WITH(access, 8), -EINVAL);
    assert_int_equal(WITH(address, (void *)-8l), -EINVAL); /* wraps */
    assert_int_equal(WITH(address, KERNEL), -EINVAL);
    struct tl_hwbp_options options = kit_watch(kit_loop_insn, 1, TL_HWBP_EXECUTE, &seen);
    assert_int_equal(refused(&options), -EINVAL);
    options = kit_watch((void *)(uintptr_t)tl_version, sizeof(long), TL_HWBP_EXECUTE, &seen); /* NOLINT */
    assert_int_equal(refused(&options), -EPERM);
}

static void who_there_is_not(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
    options.scope = TL_HWBP_THREAD;
    options.tid = 1; /* not of this process */
    assert_int_equal(refused(&options), -ESRCH);
    options.tid = -5;
    assert_int_equal(refused(&options), -ESRCH);
    options = kit_watch(&words[1], 8, TL_HWBP_WRITE, NULL);
    options.scope = TL_HWBP_CPU;
    options.cpu = 1 << 20;
    assert_int_equal(refused(&options), -ENODEV);
}

static struct tl_hwbp *held[SLOTS];

static void take_slots(struct tl_hwbp_options options, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        held[i] = kit_create(&options);
}

static void give_slots(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        kit_destroy(held[i]);
}

static void four_and_no_more(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen), one = options;
    struct tl_hwbp_options instruction = kit_watch(kit_loop_insn, sizeof(long), TL_HWBP_EXECUTE, &seen);
    unsigned descriptors = open_descriptors();
    one.scope = TL_HWBP_THREAD;
    for (unsigned whole = 0; whole <= SLOTS; whole++) {
        for (unsigned i = 0; i < SLOTS; i++)
            held[i] = kit_create(i < whole ? &options : &one);
        assert_int_equal(refused(&options), -ENOSPC);
        assert_int_equal(refused(&one), -ENOSPC);
        assert_int_equal(refused(&instruction), -ENOSPC);
        /* Slots come before addresses, but behind what the kernel asks before them. */
        struct tl_hwbp_options wrong = options;
        wrong.length = 3;
        assert_int_equal(refused(&wrong), -ENOSPC);
        wrong.flags = TL_HWBP_BRANCHES;
        assert_int_equal(refused(&wrong), -EOPNOTSUPP);
        wrong.flags = 1 << 9;
        assert_int_equal(refused(&wrong), -EINVAL);
        for (unsigned i = 0; i < SLOTS; i++)
            kit_expect(held[i], 0, 0, 0);
        give_slots(SLOTS);
    }
    assert_int_equal(open_descriptors(), descriptors);
    assert_int_equal(WITH(length, 3), -EINVAL); /* and gives its slot back: */
    take_slots(options, SLOTS);
    give_slots(SLOTS);
}

static void disabled_ones_keep_their_slot_and_deleted_ones_do_not(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
    options.flags = TL_HWBP_DISABLED;
    take_slots(options, SLOTS);
    assert_int_equal(refused(&options), -ENOSPC);
    assert_int_equal(tl_hwbp_del(held[0]), 0);
    assert_int_equal(tl_hwbp_del(held[0]), 0);
    options.flags = 0;
    struct tl_hwbp *other = kit_create(&options);
    kit_store(&words[1], 1, 8);
    kit_expect(other, 1, 1, 0);
    assert_int_equal(tl_hwbp_add(held[0], NULL), -ENOSPC);
    kit_destroy(other);
    assert_int_equal(tl_hwbp_add(held[0], NULL), 0);
    assert_int_equal(tl_hwbp_add(held[0], NULL), 0);
    kit_store(&words[1], 2, 8);
    kit_expect(held[0], 0, 0, 0);
    assert_int_equal(tl_hwbp_enable(held[0]), 0);
    kit_store(&words[1], 3, 8);
    assert_int_equal(tl_hwbp_stop(held[0]), 0);
    kit_store(&words[1], 4, 8);
    assert_int_equal(tl_hwbp_start(held[0]), 0);
    kit_store(&words[1], 5, 8);
    assert_int_equal(seen.hit.before, 4);
    assert_int_equal(tl_hwbp_del(held[0]), 0);
    kit_expect(held[0], 2, 2, 0);
    assert_int_equal(tl_hwbp_add(held[0], NULL), 0);
    kit_store(&words[1], 6, 8);
    kit_expect(held[0], 3, 3, 0);
    give_slots(SLOTS);
}

static void modify_checks_first_and_keeps_the_old(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen), to;
    struct tl_error error;
    take_slots(options, SLOTS); /* so that there is none to spare */
#define REFUSED(field, value) (to = options, to.field = (value), tl_hwbp_modify(held[0], &to, &error))
    assert_int_equal(REFUSED(period, 2), -EINVAL);
    assert_int_equal(REFUSED(handler, NULL), -EINVAL);
    assert_int_equal(REFUSED(context, NULL), -EINVAL);
    assert_int_equal(REFUSED(scope, TL_HWBP_THREAD), -EINVAL);
    assert_int_equal(REFUSED(flags, TL_HWBP_FORK), -EINVAL);
    assert_int_equal(REFUSED(flags, TL_HWBP_KERNEL), -EINVAL);
    assert_int_equal(REFUSED(length, 3), -EINVAL);
    assert_int_equal(REFUSED(length, 16), -EINVAL); /* not aligned to it */
    assert_int_equal(REFUSED(access, TL_HWBP_READ), -EINVAL);
    assert_int_equal(REFUSED(address, KERNEL), -EINVAL);
    assert_int_equal(REFUSED(address, (char *)to.address + 1), -EINVAL);
    assert_int_equal(tl_hwbp_modify(held[0], NULL, &error), -EINVAL);
    kit_store(&words[1], 1, 8);
    kit_expect(held[0], 1, 1, 0);

    to = kit_watch(kit_loop_insn, sizeof(long), TL_HWBP_EXECUTE, &seen);
    assert_int_equal(tl_hwbp_modify(held[0], &to, &error), 0);
    kit_store(&words[1], 2, 8);
    kit_loop(5);
    kit_expect(held[0], 6, 6, 0);
    assert_int_equal(seen.hit.access, TL_HWBP_EXECUTE);
    to = kit_watch((volatile char *)&words[2] + 4, 2, TL_HWBP_READ | TL_HWBP_WRITE, &seen);
    to.flags = TL_HWBP_DISABLED;
    assert_int_equal(tl_hwbp_modify(held[0], &to, &error), 0);
    kit_fetch(&words[2], 8);
    kit_loop(5);
    kit_expect(held[0], 6, 6, 0);
    to.flags = 0;
    assert_int_equal(tl_hwbp_modify(held[0], &to, &error), 0);
    kit_fetch(&words[2], 8);
    kit_expect(held[0], 7, 7, 0);
    assert_int_equal(tl_hwbp_del(held[0]), 0);
    assert_int_equal(tl_hwbp_modify(held[0], &options, &error), 0);
    assert_int_equal(tl_hwbp_add(held[0], &error), 0);
    kit_store(&words[1], 3, 8);
    kit_expect(held[0], 8, 8, 0);
    give_slots(SLOTS);
}

static void counts_are_asked_for_properly(void **state)
{
    (void)state;
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
    struct tl_hwbp *hwbp = kit_create(&options);
    struct tl_hwbp_counts counts = {.size = sizeof counts - 1};
    assert_int_equal(tl_hwbp_read(hwbp, NULL), -EINVAL);
    assert_int_equal(tl_hwbp_read(hwbp, &counts), -EINVAL);
    assert_int_equal(tl_hwbp_destroy(NULL), 0);
    kit_destroy(hwbp);
}

static void expect_good(int (*child)(void))
{
    int status = -1;
    pid_t pid = fork();
    if (!pid)
        _exit(child());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != GOOD)
        fail_msg("the child ended with 0x%x", (unsigned)status);
}

static bool says(int expected, struct tl_hwbp_options options, const char *word)
{
    struct tl_error error = {.text = ""};
    struct tl_hwbp *hwbp;
    int code = tl_hwbp_create(&options, &hwbp, &error);
    if (code != expected || !strstr(error.text, word))
        fprintf(stderr, "%d %s\n", code, error.text);
    return code == expected && strstr(error.text, word);
}

/* As a kernel that forbids perf events. */
static int forbidden(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_perf_event_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    unsigned descriptors = open_descriptors();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        return 1;
    for (unsigned i = 0; i < 2 * SLOTS; i++)
        if (!says(-EACCES, kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen), "perf_event_paranoid"))
            return 2;
    return open_descriptors() == descriptors ? GOOD : 3;
}

static int paranoid(void)
{
    int level = 2;
    FILE *file = fopen("/proc/sys/kernel/perf_event_paranoid", "r");
    if (file && fscanf(file, "%d", &level) != 1)
        level = 2;
    if (file)
        fclose(file);
    return level;
}

static int unprivileged(void)
{
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, NULL);
    bool whole = paranoid() > 0;
    if (setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY))
        return GOOD; /* it is not privileged anyway */
    prctl(PR_SET_DUMPABLE, 1);
    options.scope = TL_HWBP_WIDE;
    if (whole && !says(-EACCES, options, "CAP_PERFMON"))
        return 1;
    options.scope = TL_HWBP_CPU;
    if (whole && !says(-EACCES, options, "CAP_PERFMON"))
        return 2;
    options.scope = TL_HWBP_PROCESS;
    options.flags = TL_HWBP_KERNEL;
    options.address = KERNEL;
    if (!says(-EPERM, options, "CAP_SYS_ADMIN"))
        return 3;
    options.flags = 0;
    return says(-EINVAL, options, "TL_HWBP_KERNEL") ? GOOD : 4;
}

static int without_descriptors(void)
{
    struct rlimit limit = {0, 0};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 3;
    setrlimit(RLIMIT_NOFILE, &limit);
    return says(-EMFILE, kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen), "descriptors") ? GOOD : 1;
}

static void what_the_system_refuses(void **state)
{
    (void)state;
    expect_good(forbidden);
    expect_good(unprivileged);
    expect_good(without_descriptors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_that_make_no_sense),
        cmocka_unit_test(addresses_lengths_and_kinds_of_access),
        cmocka_unit_test(who_there_is_not),
        cmocka_unit_test(four_and_no_more),
        cmocka_unit_test(disabled_ones_keep_their_slot_and_deleted_ones_do_not),
        cmocka_unit_test(modify_checks_first_and_keeps_the_old),
        cmocka_unit_test(counts_are_asked_for_properly),
        cmocka_unit_test(what_the_system_refuses),
    };
    kit_skip_without_events();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
