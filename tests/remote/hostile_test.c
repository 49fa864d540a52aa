/* SPDX-License-Identifier: MIT
 *
 * A process that shows memory of our name and lies about everything in it. We come back without harm, and do no harm
 * but what it asked for: its own code stays as it is, its other memory stays mapped.
 */
#include "common.h"

#include <stdio.h>
#include <string.h>

enum { ROUNDS = 300 };

static void of_all_kinds(void **state)
{
    (void)state;
    unsigned opened = 0, foreign = 0;
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        struct target t;
        struct tl_remote *r;
        struct tl_error error = {0};
        struct tl_remote_region region;
        target_page(&t);
        t.progress->value = i * 0x9e3779b97f4a7c15ull;
        target_run(&t, ARGV(program("liar")));
        int result = tl_remote_open(t.pid, &r, &error);
        if (result == 0) {
            opened++;
            assert_int_equal(tl_remote_region(r, 4096, 4096, &region, &error), 0);
            assert_int_equal(tl_remote_remove(r, &error), 0);
            tl_remote_close(r);
        } else {
            assert_true(result == -EBUSY || result == -EAGAIN);
            /* Patches that it tells of and that do not stand there: somebody has changed the text, so it is left alone.
             */
            foreign += strstr(error.text, "was changed by somebody else") != NULL;
        }
        assert_goes_on(&t);
        target_end(&t);
    }
    print_message("             %u of %u let themselves be cleaned\n", opened, ROUNDS);
    print_message("             %u of %u told of patches that are not there\n", foreign, ROUNDS);
    assert_true(opened > ROUNDS / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(of_all_kinds)};
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
