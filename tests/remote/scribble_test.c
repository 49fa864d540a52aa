/* SPDX-License-Identifier: MIT
 *
 * A program that writes over the broker, its tables, our log and mailboxes while they are in force. It may hurt itself;
 * we come to an end: what was patched is restored as we remember it ourselves, or it is said what could not be done.
 * The same for the next one who comes.
 */
#include "armed.h"

#include <stdio.h>

enum { ROUNDS = 60, SEEDS = 8 };

static bool is_restored(const struct armed *a)
{
    for (size_t i = 0; i < a->plan.write_count; i++) {
        const struct tl_plan_write *write = &a->plan.writes[i];
        uint8_t now[TL_INSN_MAX];
        if (tl_remote_read(a->remote, write->addr, now, write->length) ||
            memcmp(now, write->old_bytes, write->length) != 0)
            return false;
    }
    return true;
}

static void over_what_is_in_force(void **state)
{
    (void)state;
    unsigned clean = 0, ended = 0, said = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct target t;
        struct armed a;
        struct tl_error error = {0};
        target_start(&t, ARGV(program("scribbler")));
        armed_plan(&a, &t, t.progress->probe, 5);
        assert_int_equal(armed_apply(&a), 0);
        t.progress->value = SEEDS + i * 0x9e3779b97f4a7c00ull + i % SEEDS;
        for (int k = 0; k < 10000 && t.progress->value && tl_task_state(t.pid) != 'Z'; k++)
            tl_nap(1000);
        int result = tl_apply_remove(&a.applied, 100);
        if (result == 0)
            assert_true(is_restored(&a));
        int removed = tl_remote_remove(a.remote, &error);
        clean += result == 0 && removed == 0;
        said += removed != 0 && error.text[0];
        assert_true(removed == 0 || error.text[0]);
        armed_free(&a);
        ended += tl_task_state(t.pid) == 'Z';
        struct tl_remote *next;
        if (tl_task_state(t.pid) != 'Z' && tl_remote_open(t.pid, &next, &error) == 0)
            tl_remote_close(next);
        target_end(&t);
    }
    print_message("             of %u, %u were cleaned, %u said why not, %u ended\n", ROUNDS, clean, said, ended);
    assert_true(clean >= ROUNDS / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(over_what_is_in_force)};
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
