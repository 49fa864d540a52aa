/* SPDX-License-Identifier: MIT
 *
 * The target has run out of something: the operation fails whole, says of what, and leaves nothing.
 */
#include "common.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static void idle(struct progress *p)
{
    p->ready = 1;
    for (;;) {
        p->loops[0]++;
        usleep(500);
    }
}

static void set_limit(pid_t pid, int what, rlim_t value)
{
    struct rlimit now;
    assert_int_equal(prlimit(pid, what, NULL, &now), 0);
    now.rlim_cur = value;
    assert_int_equal(prlimit(pid, what, &now, NULL), 0);
}

static void region_fails(struct target *t, int code, const char *text)
{
    struct tl_remote *r = open_target(t);
    struct tl_remote_region region;
    struct tl_error error = {0};
    assert_int_equal(tl_remote_region(r, 1 << 16, 1 << 16, &region, &error), code);
    if (!strstr(error.text, text))
        fail_msg("\"%s\" does not speak of \"%s\"", error.text, text);
    tl_remote_close(r);
    assert_as_before(t);
    assert_goes_on(t);
}

static void no_address_space(void **state)
{
    (void)state;
    struct target t;
    target_fork(&t, idle);
    target_baseline(&t);
    char *status = tl_proc_file(t.pid, "status", NULL);
    rlim_t size = (rlim_t)tl_status_number(status, "VmSize", 10) * 1024;
    free(status);
    set_limit(t.pid, RLIMIT_AS, size);
    region_fails(&t, -ENOMEM, "RLIMIT_AS");
    set_limit(t.pid, RLIMIT_AS, size + TL_CORE_SIZE); /* enough for the core, not for the area */
    region_fails(&t, -ENOMEM, "RLIMIT_AS");
    target_end(&t);
}

static void no_descriptors(void **state)
{
    (void)state;
    struct target t;
    target_fork(&t, idle);
    target_baseline(&t);
    set_limit(t.pid, RLIMIT_NOFILE, 0);
    region_fails(&t, -EMFILE, "RLIMIT_NOFILE");
    target_end(&t);
}

static void locks_everything(struct progress *p)
{
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        p->errors++;
    idle(p);
}

/* Only the privileged may lock more than the limit; for the others it is as if it were memory that lacks. */
static void memory_that_is_locked(void **state)
{
    (void)state;
    struct target t;
    target_fork(&t, locks_everything);
    if (t.progress->errors) {
        target_end(&t);
        SKIP_BECAUSE("memory cannot be locked here");
    }
    target_baseline(&t);
    struct tl_remote *r = open_target(&t);
    struct tl_remote_region region;
    struct tl_error error = {0};
    int result = tl_remote_region(r, 1 << 16, 1 << 16, &region, &error);
    if (result) {
        assert_int_equal(result, -ENOMEM);
        assert_non_null(strstr(error.text, "RLIMIT_MEMLOCK"));
    } else {
        assert_int_equal(tl_remote_remove(r, &error), 0);
    }
    tl_remote_close(r);
    assert_as_before(&t);
    assert_goes_on(&t);
    target_end(&t);
}

/* Fill the table of mappings, but for p->value of them. */
static void many_mappings(struct progress *p)
{
    size_t size = 40000ull * 8192, made = 0;
    char *base = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    while (made < 40000 && mprotect(base + made * 8192, 4096, PROT_READ) == 0)
        made++;
    if (made == 40000)
        p->errors++;
    /* The last change failed half way or not at all; from here give back one by one. */
    for (uint64_t given = 0; given < p->value; given += 2)
        munmap(base + --made * 8192, 8192);
    idle(p);
}

static void no_mappings(void **state)
{
    (void)state;
    struct target t;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    long most = 0;
    if (!file || fscanf(file, "%ld", &most) != 1 || most > 70000)
        SKIP_BECAUSE("vm.max_map_count is more than a test can use up");
    fclose(file);
    for (uint64_t spare = 0; spare <= 24; spare += 8) {
        target_page(&t);
        t.progress->value = spare;
        t.forked = true;
        t.pid = fork();
        if (t.pid == 0) {
            many_mappings(t.progress);
            _exit(0);
        }
        target_wait_ready(&t);
        target_baseline(&t);
        struct tl_remote *r = open_target(&t);
        struct tl_remote_region region;
        struct tl_error error = {0};
        int result = tl_remote_region(r, 4096, 4096, &region, &error);
        if (spare == 0)
            assert_int_equal(result, -ENOMEM);
        if (spare == 24)
            assert_int_equal(result, 0);
        if (result) {
            assert_int_equal(result, -ENOMEM);
            assert_non_null(strstr(error.text, "vm.max_map_count"));
        } else {
            const struct tl_port *port = tl_remote_port(r);
            struct tl_mapping mappings[64];
            for (size_t i = 0; i < 64; i++)
                mappings[i] = (struct tl_mapping){.addr = 0x10000000 + i * 8192, .size = 4096, .kind = TL_MAPPING_CODE};
            mappings[1].kind = TL_MAPPING_GATE;
            assert_int_equal(port->stop(port->host), 0);
            assert_int_equal(port->map(port->host, mappings, 64), -ENOMEM);
            assert_non_null(strstr(tl_remote_last_error(r), "vm.max_map_count"));
            assert_int_equal(port->map(port->host, mappings, 2), 0);
            assert_int_equal(port->map(port->host, mappings + 1, 2), -EEXIST);
            port->resume(port->host);
            assert_int_equal(tl_remote_remove(r, &error), 0);
        }
        tl_remote_close(r);
        assert_as_before(&t);
        assert_goes_on(&t);
        target_end(&t);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_address_space),
        cmocka_unit_test(no_descriptors),
        cmocka_unit_test(memory_that_is_locked),
        cmocka_unit_test(no_mappings),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
