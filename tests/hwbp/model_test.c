/* SPDX-License-Identifier: MIT
 *
 * A model written straight from the table of rules, by plain scans over all that is reserved, agrees with the
 * accounting on a million random operations.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hwbp/slots.h"

enum { CPUS = 5, TASKS = 7, HELD_MAX = 64, OPERATIONS = 250000 };

struct model {
    struct tl_slots_machine machine;
    struct tl_slot_request held[HELD_MAX];
    size_t count;
};

static uint64_t seed;
static unsigned below(unsigned n)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(seed >> 33) % n;
}

/* How many allocations succeed from now on; negative: all. */
static long allocations_left = -1;
static size_t bytes_out;

static void *allocate(void *context, size_t bytes)
{
    (void)context;
    if (!allocations_left)
        return NULL;
    allocations_left -= allocations_left > 0;
    bytes_out += bytes;
    void *memory = malloc(bytes);
    assert_non_null(memory);
    memset(memory, 0xa5, bytes);
    return memory;
}

static void release(void *context, void *memory, size_t bytes)
{
    (void)context;
    bytes_out -= bytes;
    free(memory);
}

static const struct tl_slots_host host = {.allocate = allocate, .release = release};

/* ---- the table of rules ---- */

static bool same_type(const struct model *model, const struct tl_slot_request *a, const struct tl_slot_request *b)
{
    return model->machine.shared || a->type == b->type;
}

static unsigned slots(const struct model *model, const struct tl_slot_request *request)
{
    return model->machine.slots[model->machine.shared ? TL_SLOT_DATA : request->type];
}

static unsigned pinned_to(const struct model *model, const struct tl_slot_request *request, int cpu)
{
    unsigned sum = 0;
    for (size_t i = 0; i < model->count; i++) {
        const struct tl_slot_request *held = &model->held[i];
        if (same_type(model, held, request) && !held->flexible && !held->task && held->cpu == cpu)
            sum += held->weight;
    }
    return sum;
}

static unsigned of_task(const struct model *model, const struct tl_slot_request *request, uint64_t task, int cpu)
{
    unsigned sum = 0;
    for (size_t i = 0; i < model->count; i++) {
        const struct tl_slot_request *held = &model->held[i];
        if (same_type(model, held, request) && !held->flexible && held->task == task &&
            (held->cpu == TL_ANY_CPU || held->cpu == cpu))
            sum += held->weight;
    }
    return sum;
}

static bool flexible_near(const struct model *model, const struct tl_slot_request *request)
{
    for (size_t i = 0; i < model->count; i++) {
        const struct tl_slot_request *held = &model->held[i];
        if (same_type(model, held, request) && held->flexible &&
            (held->cpu == TL_ANY_CPU || request->cpu == TL_ANY_CPU || held->cpu == request->cpu))
            return true;
    }
    return false;
}

static bool model_admits(const struct model *model, const struct tl_slot_request *request)
{
    unsigned most = 0, sum;
    if (request->task) {
        for (int c = 0; c < CPUS; c++)
            if (request->cpu == TL_ANY_CPU || request->cpu == c) {
                sum = pinned_to(model, request, c) + of_task(model, request, request->task, c);
                most = sum > most ? sum : most;
            }
    } else {
        for (uint64_t task = 1; task <= TASKS; task++) {
            sum = of_task(model, request, task, request->cpu);
            most = sum > most ? sum : most;
        }
        most += pinned_to(model, request, request->cpu);
    }
    unsigned limit = slots(model, request);
    if (request->flexible)
        return most + 1 <= limit && request->weight <= limit;
    return most + request->weight + flexible_near(model, request) <= limit;
}

/* ---- the comparison ---- */

static struct tl_slot_request random_request(void)
{
    struct tl_slot_request request = {.task = below(3) ? 1 + below(TASKS) : 0, .cpu = (int)below(CPUS)};
    if (request.task && below(3))
        request.cpu = TL_ANY_CPU;
    request.type = below(2) ? TL_SLOT_DATA : TL_SLOT_INSTRUCTION;
    request.weight = below(8) ? 1 : 1 + below(4);
    request.flexible = below(8) == 0;
    request.no_wait = below(2);
    return request;
}

static void show(const char *what, const struct tl_slot_request *request)
{
    print_message("%s: task %d cpu %d type %d weight %u %s\n", what, (int)request->task, request->cpu, request->type,
                  request->weight, request->flexible ? "flexible" : "pinned");
}

/* The accounting's answer, while now and then there is no memory. */
static int answer(int (*change)(struct tl_slots *, const struct tl_slot_request *, const struct tl_slot_request *),
                  struct tl_slots *accounting, const struct tl_slot_request *from, const struct tl_slot_request *to)
{
    allocations_left = below(4) ? -1 : 0;
    int result = change(accounting, from, to);
    allocations_left = -1;
    return result == -ENOMEM ? change(accounting, from, to) : result;
}

static int change_reserve(struct tl_slots *accounting, const struct tl_slot_request *from,
                          const struct tl_slot_request *to)
{
    (void)from;
    return tl_slots_reserve(accounting, to);
}

static int operate(struct model *model, struct tl_slots *accounting)
{
    unsigned what = below(8);
    struct tl_slot_request request = random_request();
    if (what < 4 && model->count < HELD_MAX) {
        int expected = model_admits(model, &request) ? 0 : -ENOSPC;
        int got = answer(change_reserve, accounting, NULL, &request);
        if (got != expected) {
            show("reserve", &request);
            return got - expected;
        }
        if (!got)
            model->held[model->count++] = request;
    } else if (what < 6 && model->count) {
        size_t which = below((unsigned)model->count);
        if (tl_slots_release(accounting, &model->held[which]))
            return 1;
        model->held[which] = model->held[--model->count];
    } else if (model->count) {
        size_t which = below((unsigned)model->count);
        struct tl_slot_request old = model->held[which];
        model->held[which] = model->held[--model->count];
        bool admits = model_admits(model, &request);
        int got = answer(tl_slots_modify, accounting, &old, &request);
        model->held[model->count++] = got ? old : request;
        if (got != (admits ? 0 : -ENOSPC)) {
            show("modify from", &old);
            show("to", &request);
            return 1;
        }
    }
    return 0;
}

static void agree(struct tl_slots_machine machine)
{
    struct model model = {.machine = machine};
    struct tl_slots accounting;
    assert_int_equal(tl_slots_init(&accounting, &machine, &host), 0);
    for (long i = 0; i < OPERATIONS; i++)
        if (operate(&model, &accounting))
            fail_msg("operation %ld differs", i);
    while (model.count)
        assert_int_equal(tl_slots_release(&accounting, &model.held[--model.count]), 0);
    /* All is free again: each CPU can be given whole. */
    for (int c = 0; c < CPUS; c++) {
        struct tl_slot_request all = {.cpu = c, .weight = machine.slots[0]};
        assert_int_equal(tl_slots_reserve(&accounting, &all), 0);
    }
    tl_slots_destroy(&accounting);
    assert_int_equal(bytes_out, 0);
}

static void test_shared_slots(void **state)
{
    (void)state;
    agree((struct tl_slots_machine){.cpus = CPUS, .slots = {4}, .shared = true});
}

static void test_separate_slots(void **state)
{
    (void)state;
    agree((struct tl_slots_machine){.cpus = CPUS, .slots = {4, 6}});
}

static void test_many_slots(void **state)
{
    (void)state;
    agree((struct tl_slots_machine){.cpus = CPUS, .slots = {16, 1}});
}

static void test_one_slot(void **state)
{
    (void)state;
    agree((struct tl_slots_machine){.cpus = CPUS, .slots = {1}, .shared = true});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shared_slots),
        cmocka_unit_test(test_separate_slots),
        cmocka_unit_test(test_many_slots),
        cmocka_unit_test(test_one_slot),
    };
    seed = 20240229;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
