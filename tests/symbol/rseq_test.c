/* SPDX-License-Identifier: MIT
 *
 * Restartable sequences, in a file whose table holds addresses, and in those where relocations hold them.
 */
#include "support.h"

static void check(const char *name)
{
    struct tl_object *object = open_object(fixture(name));
    const char *symbol = "nm %s | sed -n 's/^\\(.*\\) [Tt] %s$/at 0x\\1/p'";
    char command[4200];
    uint64_t at[3];
    static const char *const labels[] = {"rseq_start", "rseq_end", "rseq_abort"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(command, sizeof command, symbol, fixture(name), labels[i]);
        at[i] = number_behind("at ", "%s", command);
    }
    uint64_t start = at[0], end = at[1], abort = at[2];
    assert_false(tl_object_in_rseq(object, start - 1));
    for (uint64_t addr = start; addr < end; addr++)
        assert_true(tl_object_in_rseq(object, addr));
    assert_int_equal(end - start, 3);
    assert_false(tl_object_in_rseq(object, end));
    for (uint64_t addr = abort - 4; addr < abort; addr++)
        assert_true(tl_object_in_rseq(object, addr));
    assert_false(tl_object_in_rseq(object, abort));
    assert_false(tl_object_in_rseq(object, 0));
    tl_object_close(object);
}

static void a_program_at_a_fixed_address(void **state)
{
    (void)state;
    check("rseq-nopie");
}

static void a_program_whose_table_is_relocated(void **state)
{
    (void)state;
    check("rseq-pie");
    check("rseq-zeros");
}

static void a_program_with_packed_relocations(void **state)
{
    (void)state;
    check("rseq-relr");
}

static void a_program_without_sequences(void **state)
{
    (void)state;
    struct tl_object *object = open_object(fixture("pie"));
    const struct tl_function *function;
    assert_int_equal(named(object, "main", &function), 1);
    assert_false(tl_object_in_rseq(object, function->addr));
    tl_object_close(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_at_a_fixed_address),
        cmocka_unit_test(a_program_whose_table_is_relocated),
        cmocka_unit_test(a_program_with_packed_relocations),
        cmocka_unit_test(a_program_without_sequences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
