/* SPDX-License-Identifier: MIT
 *
 * Jump probes: a handler with the function's own signature, then the function as if nothing had been.
 */
#include "call_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { INDEX = 40 };

typedef double many_fn(int, double, const char *, float, long, long, long, long, long, double, double, double, double,
                       double, double, double, double, short, const char *);

static double real(int a, double b, const char *c, float d, long e, long f, long g, long h, long i, double j, double k,
                   double l, double m, double n, double o, double p, double q, short r, const char *s)
{
    return a + b + (double)strlen(c) + (double)d + (double)(e + f + g + h + i) + j + k + l + m + n + o + p + q + r +
           (double)strlen(s);
}

static double seen;
static int calls;

static double handler(int a, double b, const char *c, float d, long e, long f, long g, long h, long i, double j,
                      double k, double l, double m, double n, double o, double p, double q, short r, const char *s)
{
    calls++;
    seen = real(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s);
    volatile double scratch[8];
    for (int x = 0; x < 8; x++)
        scratch[x] = seen / (x + 1);
    a = 0, b = 0, c = NULL, e = f = g = h = i = 0, r = 0, s = NULL; /* in vain */
    return scratch[3];
}

static int change_vectors(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe, (void)regs;
    __asm__ volatile("pcmpeqb %%xmm0, %%xmm0; pcmpeqb %%xmm1, %%xmm1; pcmpeqb %%xmm2, %%xmm2; pcmpeqb %%xmm7, %%xmm7"
                     :
                     :
                     : "xmm0", "xmm1", "xmm2", "xmm7");
    return 0;
}

/* A hook, then a jump to the function: jmp [rip + 0] */
static void *probed(void *function)
{
    uint8_t jump[14] = {0xff, 0x25, 0, 0, 0, 0};
    memcpy(jump + 6, &function, 8);
    return call_world_code(INDEX, jump, sizeof(jump));
}

static struct tl_call_action jump_action(tl_jump_handler *function, uint32_t bytes)
{
    return (struct tl_call_action){.kind = TL_CALL_JUMP, .jump = function, .stack_bytes = bytes};
}

static void the_handler_sees_all_arguments_and_the_function_too(void **unused)
{
    (void)unused;
    many_fn *function = real;
    void *address;
    memcpy(&address, &function, 8);
    address = probed(address);
    memcpy(&function, &address, 8);
    struct tl_call_action actions[] = {{.kind = TL_CALL_PRE, .pre = change_vectors},
                                       jump_action(TL_JUMP_HANDLER(handler), 256),
                                       {.kind = TL_CALL_PRE, .pre = change_vectors}};
    call_world_list(INDEX, actions, 3);
    for (int x = 0; x < 100; x++) {
        double expected = real(x, 1.5, "three", 2.25f, 5, 6, 7, 8, 9, .1, .2, .3, .4, .5, .6, .7, .8, -3, "nineteen");
        assert_true(function(x, 1.5, "three", 2.25f, 5, 6, 7, 8, 9, .1, .2, .3, .4, .5, .6, .7, .8, -3, "nineteen") ==
                    expected);
        assert_true(seen == expected);
        assert_int_equal(calls, x + 1);
    }
}

static char text[64];

static int see_format(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return 0;
}

static int take_format(const char *format, ...)
{
    char own[64];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(own, sizeof(own), format, arguments);
    va_end(arguments);
    return length;
}

static void so_does_one_with_any_number_of_arguments(void **unused)
{
    (void)unused;
    int (*function)(const char *, ...) = take_format;
    void *address;
    memcpy(&address, &function, 8);
    address = probed(address);
    memcpy(&function, &address, 8);
    struct tl_call_action action = jump_action(TL_JUMP_HANDLER(see_format), 128);
    call_world_list(INDEX, &action, 1);
    assert_int_equal(function("%d %.2f %s %d %d %d %d %.1f", 1, 2.5, "x", 3, 4, 5, 6, 7.5), 20);
    assert_string_equal(text, "1 2.50 x 3 4 5 6 7.5");
}

static void note_call(void)
{
    calls++;
}

/* The return address is the last word that can be read. */
static void a_stack_that_ends_is_not_read_beyond(void **unused)
{
    (void)unused;
    uint8_t *stack = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(stack + 7 * 4096, 4096);
    struct tl_call_action action = jump_action(note_call, 4096);
    call_world_list(INDEX, &action, 1);
    /* rdi: the new rsp. push rbx; mov rbx, rsp; mov rsp, rdi; call rsi; mov rsp, rbx; pop rbx; ret */
    uint8_t *room = call_world_room("\x53\x48\x89\xe3\x48\x89\xfc\xff\xd6\x48\x89\xdc\x5b\xc3", 14);
    uint64_t code = (uint64_t)(uintptr_t)call_world_code(INDEX, "\xc3", 1);
    calls = 0;
    for (uint64_t below = 0; below < 64; below += 8)
        call_world_function(room)((uint64_t)(uintptr_t)stack + 7 * 4096 - below, code);
    assert_int_equal(calls, 8);
    munmap(stack, 7 * 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_handler_sees_all_arguments_and_the_function_too),
        cmocka_unit_test(so_does_one_with_any_number_of_arguments),
        cmocka_unit_test(a_stack_that_ends_is_not_read_beyond),
    };
    call_world_make(4);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
