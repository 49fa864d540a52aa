/* SPDX-License-Identifier: MIT
 *
 * Names and ids of threads, with this process as the target.
 */
#include "check.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "trace/tasks.h"

static const uint64_t second = 1000000000;

struct host {
    int calls, answer;
    uint32_t tid; /* last asked for */
    uint64_t fs_base;
};

static int resolve(void *context, uint32_t tid, uint64_t fs_base)
{
    struct host *host = context;
    host->tid = tid;
    host->fs_base = fs_base;
    host->calls++;
    return host->answer;
}

static void a_thread_is_known_by_its_id_and_renamed_after_a_second(void **state)
{
    (void)state;
    struct tl_tasks *tasks;
    const char *comm;
    uint32_t tid = (uint32_t)gettid();

    prctl(PR_SET_NAME, "before");
    assert_int_equal(tl_tasks_open(getpid(), 0, NULL, NULL, &tasks), 0);
    assert_int_equal(tl_tasks_find(tasks, tid, 0x1000, second, &comm), tid);
    assert_string_equal(comm, "before");
    prctl(PR_SET_NAME, "after, wi\nth \"x\"");
    assert_int_equal(tl_tasks_find(tasks, tid, 0x2000, second + 1, &comm), tid);
    assert_string_equal(comm, "before"); /* the last one known */
    tl_tasks_find(tasks, tid, 0, second / 2, &comm);
    assert_string_equal(comm, "before"); /* an older event asks nothing */
    tl_tasks_find(tasks, tid, 0, 2 * second, &comm);
    assert_string_equal(comm, "after, wi\nth \"x"); /* 15 bytes are what the kernel keeps */
    tl_tasks_close(tasks);
}

static void a_thread_without_an_id_is_asked_for_by_its_fs_base(void **state)
{
    (void)state;
    struct tl_tasks *tasks;
    struct host host = {.answer = getpid()};
    const char *comm;

    prctl(PR_SET_NAME, "main");
    assert_int_equal(tl_tasks_open(getpid(), 0, resolve, &host, &tasks), 0);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(tl_tasks_find(tasks, 0, 0x1000, i, &comm), getpid());
    assert_int_equal(host.calls, 1);
    assert_int_equal(host.fs_base, 0x1000);
    assert_string_equal(comm, "main");
    host.answer = 0; /* gone: what was known stays */
    assert_int_equal(tl_tasks_find(tasks, 0, 0x1000, 5 * second, &comm), getpid());
    assert_int_equal(host.calls, 2);
    assert_int_equal(tl_tasks_find(tasks, 0, 0x2000, 0, &comm), getpid()); /* never known: the process */
    tl_tasks_find(tasks, 77, 0x2000, 0, &comm);
    assert_int_equal(host.calls, 3); /* an id needs no question … */
    tl_tasks_close(tasks);

    host = (struct host){.answer = 4242};
    assert_int_equal(tl_tasks_open(getpid(), 1, resolve, &host, &tasks), 0);
    assert_int_equal(tl_tasks_find(tasks, 7, 0x3000, 0, &comm), 4242); /* … unless it comes from another name space */
    assert_int_equal(host.calls, 1);
    assert_int_equal(host.tid, 7);
    assert_int_equal(host.fs_base, 0x3000);
    tl_tasks_close(tasks);
}

static void more_threads_than_the_cache_holds_are_all_right(void **state)
{
    (void)state;
    struct tl_tasks *tasks;
    const char *comm;

    prctl(PR_SET_NAME, "crowd");
    assert_int_equal(tl_tasks_open(getpid(), 0, NULL, NULL, &tasks), 0);
    for (uint32_t tid = 1 << 30; tid < (1 << 30) + 5000; tid++) {
        assert_int_equal(tl_tasks_find(tasks, tid, 0, 0, &comm), tid);
        assert_string_equal(comm, "crowd"); /* no such thread: the process's name */
    }
    assert_int_equal(tl_tasks_find(tasks, UINT32_MAX, 0, 0, &comm), getpid()); /* no id at all */
    tl_tasks_close(tasks);
}

static void a_process_that_is_gone_has_a_name_as_well(void **state)
{
    (void)state;
    struct tl_tasks *tasks;
    const char *comm;
    assert_int_equal(tl_tasks_open(INT32_MAX, 0, NULL, NULL, &tasks), 0);
    assert_int_equal(tl_tasks_find(tasks, 0, 0, 0, &comm), INT32_MAX);
    assert_string_equal(comm, "?");
    tl_tasks_close(tasks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_is_known_by_its_id_and_renamed_after_a_second),
        cmocka_unit_test(a_thread_without_an_id_is_asked_for_by_its_fs_base),
        cmocka_unit_test(more_threads_than_the_cache_holds_are_all_right),
        cmocka_unit_test(a_process_that_is_gone_has_a_name_as_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
