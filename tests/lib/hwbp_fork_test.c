/* SPDX-License-Identifier: MIT
 *
 * Hardware breakpoints over fork, vfork and exec.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hwbp_kit.h"

enum { GOOD = 17 };

static _Alignas(64) volatile uint64_t words[8];
static struct seen seen;
static const char *self;

static int begin(void **state)
{
    (void)state;
    memset((void *)(uintptr_t)words, 0, sizeof words);
    memset(&seen, 0, sizeof seen);
    return 0;
}

static void expect_good(pid_t pid)
{
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != GOOD)
        fail_msg("the child ended with 0x%x", (unsigned)status);
}

static bool has_counts(const struct tl_hwbp *hwbp, uint64_t hits, uint64_t handled)
{
    struct tl_hwbp_counts counts = {.size = sizeof counts};
    return !tl_hwbp_read(hwbp, &counts) && counts.hits == hits && counts.handled == handled && !counts.missed;
}

/* In the child nothing hits; when it wants, it is watched itself; what it does to the breakpoint is nothing to the
 * parent. */
static bool child_is_free(struct tl_hwbp *hwbp)
{
    seen.hits = 0;
    kit_store(&words[1], 5, 8);
    bool good = seen.hits == 0 && has_counts(hwbp, 0, 0);
    good = good && tl_hwbp_add(hwbp, NULL) == 0;
    kit_store(&words[1], 6, 8);
    kit_store(&words[1], 7, 8);
    good = good && seen.hits == 2 && seen.hit.tid == getpid() && seen.hit.before == 6 && has_counts(hwbp, 2, 2);
    return good && tl_hwbp_disable(hwbp) == 0 && tl_hwbp_destroy(hwbp) == 0;
}

static void a_child_is_not_watched(void **state)
{
    const uint32_t *scope = *state;
    begin(NULL);
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
    options.scope = *scope;
    struct tl_hwbp *hwbp = kit_create(&options);
    kit_store(&words[1], 1, 8);
    pid_t pid = fork();
    if (!pid)
        _exit(child_is_free(hwbp) ? GOOD : 1);
    expect_good(pid);
    kit_expect(hwbp, 1, 1, 0);
    kit_store(&words[1], 2, 8);
    kit_expect(hwbp, 2, 2, 0);
    kit_destroy(hwbp);
}

static void *write_one(void *unused)
{
    kit_store(&words[1], 50, 8);
    return unused;
}

static bool child_is_watched(struct tl_hwbp *hwbp)
{
    pthread_t thread;
    struct tl_hwbp_options options = kit_watch(&words[2], 8, TL_HWBP_WRITE, &seen);
    seen.hits = 0;
    kit_store(&words[1], 5, 8);
    bool good = seen.hits == 1 && seen.hit.before == 1 && seen.hit.now == 5 && has_counts(hwbp, 1, 1);
    good = good && !pthread_create(&thread, NULL, write_one, NULL) && !pthread_join(thread, NULL);
    good = good && seen.hits == 2 && has_counts(hwbp, 2, 2);
    pid_t pid = fork();
    if (!pid) {
        kit_store(&words[1], 6, 8);
        _exit(has_counts(hwbp, 1, 1) ? GOOD : 1);
    }
    int status;
    good = good && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == GOOD;
    good = good && tl_hwbp_stop(hwbp) == -EPERM && tl_hwbp_modify(hwbp, &options, NULL) == -EPERM &&
           tl_hwbp_disable(hwbp) == -EPERM && tl_hwbp_add(hwbp, NULL) == -EPERM && tl_hwbp_del(hwbp) == -EPERM;
    good = good && tl_hwbp_destroy(hwbp) == 0;
    kit_store(&words[1], 7, 8); /* hits still, and is swallowed */
    return good && seen.hits == 2;
}

static void a_child_is_watched_by_request(void **state)
{
    const uint32_t *scope = *state;
    begin(NULL);
    struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
    options.scope = *scope;
    options.flags = TL_HWBP_FORK;
    struct tl_hwbp *hwbp = kit_create(&options);
    kit_store(&words[1], 1, 8);
    pid_t pid = fork();
    if (!pid)
        _exit(child_is_watched(hwbp) ? GOOD : 1);
    expect_good(pid);
    struct tl_hwbp_counts counts = kit_counts(hwbp);
    assert_int_equal(counts.hits, 5); /* one here, three in the child, one in its child */
    assert_int_equal(counts.handled, 1);
    kit_destroy(hwbp);
}

static void run_ourselves(char *const *arguments)
{
    execv(self, arguments);
    _exit(2);
}

/* The child shares the parent's memory, and writes to it: that is its own affair. Then it is another program. */
static void vfork_and_exec_are_not_watched(void **state)
{
    static char *const arguments[] = {(char *)"", (char *)"write", NULL};
    (void)state;
    for (unsigned flags = 0; flags <= TL_HWBP_FORK; flags += TL_HWBP_FORK) {
        struct tl_hwbp_options options = kit_watch(&words[1], 8, TL_HWBP_WRITE, &seen);
        begin(NULL);
        options.flags = flags;
        struct tl_hwbp *hwbp = kit_create(&options);
        pid_t pid = vfork();
        if (!pid) {
            kit_store(&words[1], 9, 8);
            run_ourselves(arguments);
        }
        expect_good(pid);
        unsigned told = flags ? 1 : 0;
        assert_int_equal(seen.hits, told);
        kit_store(&words[1], 10, 8);
        kit_expect(hwbp, told + 1, told + 1, 0);
        kit_destroy(hwbp);
    }
}

/* Without the library no handler takes SIGTRAP: a breakpoint that is left would kill. */
static int written_to(void)
{
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        kit_store(&words[i], i, 8);
    return GOOD;
}

int main(int argc, char **argv)
{
    static uint32_t scopes[] = {TL_HWBP_PROCESS, TL_HWBP_THREAD};
    if (argc > 1)
        return written_to();
    const struct CMUnitTest tests[] = {
        {"a child is not watched", a_child_is_not_watched, NULL, NULL, &scopes[0]},
        {"a child is not watched: of one thread", a_child_is_not_watched, NULL, NULL, &scopes[1]},
        {"a child is watched by request", a_child_is_watched_by_request, NULL, NULL, &scopes[0]},
        {"a child is watched by request: of one thread", a_child_is_watched_by_request, NULL, NULL, &scopes[1]},
        cmocka_unit_test(vfork_and_exec_are_not_watched),
    };
    self = realpath(argv[0], NULL);
    kit_skip_without_events();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
