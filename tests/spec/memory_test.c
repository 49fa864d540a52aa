/* SPDX-License-Identifier: MIT
 *
 * Without memory: whichever allocation fails, the answer is -ENOMEM and everything that was allocated is freed. The
 * allocator is wrapped by the linker (--wrap), so the tests' own allocations count as well where they are made.
 */
#include "kit.h"
#include "spec/watch.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t length);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t length);
void __wrap_free(void *memory);

static long left = -1; /* allocations until one fails; negative: none does */
static long live;      /* allocations that have not been freed */
static bool was_refused;

static bool refused(void)
{
    bool is_refused = left == 0;
    left -= left > 0;
    was_refused |= is_refused;
    return is_refused;
}

static void *counted(void *memory)
{
    live += memory != NULL;
    return memory;
}

void *__wrap_malloc(size_t size)
{
    return refused() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return refused() ? NULL : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *old, size_t size)
{
    if (refused())
        return NULL;
    void *memory = __real_realloc(old, size);
    live += !old && memory;
    return memory;
}

char *__wrap_strdup(const char *text)
{
    return refused() ? NULL : counted(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t length)
{
    return refused() ? NULL : counted(__real_strndup(text, length));
}

void __wrap_free(void *memory)
{
    live -= memory != NULL;
    __real_free(memory);
}

static const char *const specs[] = {
    "p:grp/ev /bin/ls:main+4 a=%di:u8 b=-8(@counter):string c=\\\"text\" $comm if a == 3 && b != \"x\" || !(a & 4)",
    "uretprobe:libc:malloc $retval if arg1 > 'a' && pid == -tid",
    "pid$target:a.out::entry s=$arg1:string if s ~ \"x*\"",
    "libc!0x1234 @+8:u32 @nothing-8",
    "malloc",
};

/* Parse and compile with the allocation number `fails` refused; whether that one came at all. */
static bool attempt(const char *text, long fails)
{
    struct tl_spec *spec = NULL;
    struct kit_program program;
    struct tl_error error = {0};
    left = fails;
    was_refused = false;
    int result = tl_spec_parse(text, &spec, &error);
    if (!result)
        result = kit_compile(spec, spec->is_return ? &kit_return : &kit_entry, &program, &error);
    left = -1;
    if (!result)
        kit_program_free(&program);
    tl_spec_free(spec);
    if (was_refused) {
        assert_int_equal(result, -ENOMEM);
        assert_int_equal(error.code, -ENOMEM);
    }
    return was_refused;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        long fails = 0, before = live;
        while (attempt(specs[i], fails)) {
            assert_int_equal(live, before);
            fails++;
        }
        assert_true(fails > 3);
        assert_int_equal(live, before);
    }
}

static bool attempt_watch(const char *text, long fails)
{
    struct tl_watch *watch = NULL;
    struct tl_operation *code = NULL;
    struct tl_error error = {0};
    struct tl_watch_value value = {.length = 4, .has_values = true};
    size_t length, strings_size;
    char *strings = NULL;
    left = fails;
    was_refused = false;
    int result = tl_watch_parse(text, &watch, &error);
    if (!result)
        result = tl_watch_compile(watch, &value, &code, &length, &strings, &strings_size, &error);
    left = -1;
    free(code);
    free(strings);
    tl_watch_free(watch);
    if (was_refused) {
        assert_int_equal(result, -ENOMEM);
        assert_int_equal(error.code, -ENOMEM);
    }
    return was_refused;
}

static void every_allocation_for_a_watch_may_fail(void **state)
{
    (void)state;
    static const char *const watches[] = {"libx.so:a.c:ns::table[3].next.key+4 if old < new && !(new & 1)",
                                          "mem:0x1000/8:rw if new == 3", "watchpoint:counter:4:w", "counter"};
    for (size_t i = 0; i < sizeof watches / sizeof *watches; i++) {
        long fails = 0, before = live;
        while (attempt_watch(watches[i], fails)) {
            assert_int_equal(live, before);
            fails++;
        }
        assert_true(fails > 3);
        assert_int_equal(live, before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail),
                                       cmocka_unit_test(every_allocation_for_a_watch_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
