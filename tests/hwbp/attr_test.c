/* SPDX-License-Identifier: MIT
 *
 * What the hardware can watch: the rules of the kernel, asked of the kernel too where it answers; and ranges in pieces.
 */
#include <errno.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "hwbp/attr.h"

static void test_rules(void **state)
{
    (void)state;
    static const struct {
        struct tl_hwbp_attr attr;
        bool privileged;
        int expected;
    } cases[] = {
        {{0x1000, 1, TL_ACCESS_W, true}, false, 0},
        {{0x1002, 2, TL_ACCESS_RW, true}, false, 0},
        {{0x1004, 4, TL_ACCESS_W, false}, false, 0},
        {{0x1008, 8, TL_ACCESS_W, true}, false, 0},
        {{0x1003, 8, TL_ACCESS_X, true}, false, 0},
        {{0x1003, 1, TL_ACCESS_X, true}, false, -EINVAL},
        {{0x1000, 4, TL_ACCESS_R, true}, false, -EINVAL},
        {{0x1000, 4, 0, true}, false, -EINVAL},
        {{0x1000, 8, TL_ACCESS_RW | TL_ACCESS_X, true}, false, -EINVAL},
        {{0x1000, 0, TL_ACCESS_W, true}, false, -EINVAL},
        {{0x1000, 3, TL_ACCESS_W, true}, false, -EINVAL},
        {{0x1001, 2, TL_ACCESS_W, true}, false, -EINVAL},
        {{0x1000, 16, TL_ACCESS_W, true}, false, -EOPNOTSUPP},
        {{0x1008, 16, TL_ACCESS_W, true}, false, -EINVAL},
        {{0xfffffffffffffffc, 8, TL_ACCESS_W, false}, true, -EINVAL},
        {{0xffffffff81000000, 8, TL_ACCESS_W, true}, true, -EINVAL},
        {{0xffffffff81000000, 8, TL_ACCESS_W, false}, false, -EPERM},
        {{0xffffffff81000000, 8, TL_ACCESS_W, false}, true, 0},
        {{TL_USER_SPACE_END - 8, 8, TL_ACCESS_W, true}, false, 0},
        {{TL_USER_SPACE_END, 8, TL_ACCESS_W, true}, false, -EINVAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (tl_hwbp_check(&cases[i].attr, cases[i].privileged) != cases[i].expected)
            fail_msg("case %zu: %d", i, tl_hwbp_check(&cases[i].attr, cases[i].privileged));
}

static void test_the_kernel_agrees(void **state)
{
    (void)state;
    static const uint64_t addresses[] = {0x10000,           0x10001, 0x10002, 0x10004, TL_USER_SPACE_END - 8,
                                         TL_USER_SPACE_END, ~7ull};
    static const uint64_t lengths[] = {0, 1, 2, 3, 4, 5, 8, 16, 64};
    unsigned asked = 0;
    for (size_t a = 0; a < sizeof addresses / sizeof *addresses; a++)
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
            for (unsigned access = 0; access < 8; access++) {
                struct tl_hwbp_attr attr = {addresses[a], lengths[l], access, true};
                struct perf_event_attr event = {.type = PERF_TYPE_BREAKPOINT, .size = sizeof event};
                event.exclude_kernel = 1;
                event.bp_addr = attr.addr;
                event.bp_len = attr.length;
                event.bp_type = (access & TL_ACCESS_R ? HW_BREAKPOINT_R : 0u) |
                                (access & TL_ACCESS_W ? HW_BREAKPOINT_W : 0u) |
                                (access & TL_ACCESS_X ? HW_BREAKPOINT_X : 0u);
                int fd = (int)syscall(SYS_perf_event_open, &event, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
                int kernel = fd < 0 ? -errno : 0;
                if (fd >= 0)
                    close(fd);
                if (kernel == -EACCES || kernel == -EPERM || kernel == -ENOSYS || kernel == -ENOENT) {
                    print_message("skipped: the kernel offers no breakpoint events here (%d)\n", kernel);
                    return;
                }
                int ours = tl_hwbp_check(&attr, false);
                /* On processors with address masks the kernel takes larger ranges. */
                if (kernel != ours && !(ours == -EOPNOTSUPP && kernel == 0))
                    fail_msg("addr %llx length %llu access %u: the kernel %d, we %d", (unsigned long long)attr.addr,
                             (unsigned long long)attr.length, access, kernel, ours);
                asked++;
            }
    print_message("%u attributes asked of the kernel\n", asked);
}

static void test_pieces(void **state)
{
    (void)state;
    for (uint64_t addr = 0x1000; addr < 0x1010; addr++)
        for (uint64_t length = 1; length < 64; length++) {
            struct tl_hwbp_piece pieces[64];
            uint64_t count = tl_hwbp_split(addr, length, pieces, 64), next = addr;
            for (uint64_t i = 0; i < count; i++) {
                assert_int_equal(pieces[i].addr, next);
                struct tl_hwbp_attr attr = {pieces[i].addr, pieces[i].length, TL_ACCESS_W, true};
                assert_int_equal(tl_hwbp_check(&attr, false), 0);
                next += pieces[i].length;
            }
            assert_int_equal(next, addr + length);
            /* No fewer could do: each aligned eight bytes that are touched need one at least. */
            assert_true(count >= (addr + length - 1) / 8 - addr / 8 + 1);
            assert_int_equal(tl_hwbp_split(addr, length, NULL, 0), count);
        }
    assert_int_equal(tl_hwbp_split(0x1001, 7, NULL, 0), 3);
    assert_int_equal(tl_hwbp_split(0x1000, 32, NULL, 0), 4);
    assert_int_equal(tl_hwbp_split(0x1000, 0, NULL, 0), 0);
    assert_int_equal(tl_hwbp_split(~0ull, 8, NULL, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_the_kernel_agrees),
        cmocka_unit_test(test_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
