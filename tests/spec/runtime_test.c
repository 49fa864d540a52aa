/* SPDX-License-Identifier: MIT
 *
 * The runtime's interpreter and the reference machine agree: on random programs, and on what random specs compile to.
 */
#include "kit.h"

#include <sys/mman.h>
#include <unistd.h>

#include "hit/runtime.h"
#include "random_program.h"
#include "random_spec.h"

enum { PAGE = sizeof random_page, STRINGS_AT = 1024 };

static void *memory_page; /* of this process, like the machine's */
static _Alignas(64) uint8_t area_bytes[STRINGS_AT + 3000];
static struct tl_lane *lane;

static int map_memory(void **state)
{
    (void)state;
    memory_page = mmap((void *)RANDOM_PAGE, PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    lane = calloc(1, sizeof *lane);
    if (memory_page != (void *)RANDOM_PAGE || !lane)
        return -1;
    memcpy(memory_page, random_page, PAGE);
    return 0;
}

static int unmap_memory(void **state)
{
    (void)state;
    free(lane);
    return munmap(memory_page, PAGE);
}

static bool run(struct tl_hit *hit, const struct machine *machine, const struct tl_program *program)
{
    static struct tl_hit_regs regs;
    struct tl_hit_control *area = (struct tl_hit_control *)area_bytes;
    assert_true(program->strings_size <= sizeof area_bytes - STRINGS_AT);
    *area = (struct tl_hit_control){.pid = (uint32_t)getpid(), .strings = STRINGS_AT};
    if (program->strings_size)
        memcpy(area_bytes + STRINGS_AT, program->strings, program->strings_size);
    memcpy(regs.r, machine->regs, sizeof regs.r);
    *hit = (struct tl_hit){.area = area, .lane = lane, .regs = &regs, .tid_site = machine->tid};
    return tl_fetch_run(hit, program->code);
}

static void same_slot(const struct tl_hit *hit, const struct machine *machine, unsigned slot)
{
    bool is_stored = hit->slots >> slot & 1, is_faulted = hit->slots >> (slot + 32) & 1,
         is_string = hit->strings >> slot & 1;
    const struct machine_slot *expected = &machine->slots[slot];
    uint64_t value = lane->slots[slot];
    assert_int_equal(is_stored, expected->is == SLOT_NUMBER || expected->is == SLOT_STRING);
    assert_int_equal(is_faulted, expected->is == SLOT_FAULT);
    assert_int_equal(is_string, expected->is == SLOT_STRING);
    if (is_string) {
        assert_int_equal((uint32_t)value, strlen(expected->text));
        assert_memory_equal(lane->scratch + (value >> 32), expected->text, strlen(expected->text));
    } else if (is_stored) {
        assert_int_equal(value, expected->value);
    }
}

/* Run on both; they end in the same way, with the same slots. */
static enum machine_end same(struct machine *machine, const struct tl_program *program)
{
    struct tl_hit hit;
    machine->pid = (uint32_t)getpid();
    machine->regs[TL_RFLAGS] = 0; /* the runtime puts the processor's own flags together */
    enum machine_end end = machine_run(machine, program);
    assert_int_equal(run(&hit, machine, program), end == MACHINE_ACCEPT);
    for (unsigned slot = 0; slot < TL_EVENT_ARGS && end == MACHINE_ACCEPT; slot++)
        same_slot(&hit, machine, slot);
    return end;
}

static bool reads_flags(const struct tl_program *program)
{
    for (size_t i = 0; i < program->length; i++)
        if (program->code[i].op == TL_OP_REG && program->code[i].a == TL_RFLAGS)
            return true;
    return false;
}

/* LOAD_DIRECT may only be pointed at what is there. */
static bool loads_directly(const struct tl_program *program)
{
    for (size_t i = 0; i < program->length; i++)
        if (program->code[i].op == TL_OP_LOAD_DIRECT)
            return true;
    return false;
}

static void random_programs(void **state)
{
    (void)state;
    struct chance chance = {7};
    unsigned compared = 0;
    for (unsigned round = 0; round < 6000; round++) {
        struct tl_operation code[RANDOM_PROGRAM_MAX];
        const struct tl_program program = random_program(&chance, code);
        struct machine machine = random_machine(&chance);
        if (reads_flags(&program) || loads_directly(&program))
            continue;
        same(&machine, &program);
        compared++;
    }
    assert_true(compared > 1000);
}

static void random_specs(void **state)
{
    (void)state;
    struct chance chance = {8};
    unsigned ends[2] = {0};
    for (unsigned round = 0; round < 6000; round++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        random_spec(out, &chance);
        fclose(out);
        struct tl_spec *spec = kit_parse(text);
        struct tl_compile_target target = spec->is_return ? kit_return : kit_entry;
        struct kit_program program;
        target.retval_known = round % 4;
        assert_int_equal(kit_compile(spec, &target, &program, NULL), 0);
        struct machine machine = random_machine(&chance);
        if (!reads_flags(&program.program))
            ends[same(&machine, &program.program)]++;
        kit_program_free(&program);
        tl_spec_free(spec);
        free(text);
    }
    assert_true(ends[MACHINE_ACCEPT] > 1000 && ends[MACHINE_REJECT] > 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_programs),
        cmocka_unit_test(random_specs),
    };
    return cmocka_run_group_tests(tests, map_memory, unmap_memory);
}
