/* SPDX-License-Identifier: MIT */
#include "program.h"

struct world program_world;
struct tl_hit program_hit;
uint64_t program_fs_base;
const struct tl_watched *program_watched;
static struct tl_hit_regs regs;
static const char pool[] = "\0abc\0a*c\0[x-z]?*";

int program_setup(void **unused)
{
    (void)unused;
    program_world = world_make(&(struct world_shape){.probes = 1, .strings = pool, .strings_size = sizeof(pool)});
    for (unsigned i = 0; i < TL_REG_COUNT; i++)
        regs.r[i] = 1000 + i;
    return 0;
}

int program_teardown(void **unused)
{
    (void)unused;
    world_free(&program_world);
    return 0;
}

bool program_is_valid(const struct tl_operation *code, size_t length)
{
    struct tl_program program = {.code = code, .length = length, .strings = pool, .strings_size = sizeof(pool)};
    return tl_program_verify(&program) == 0;
}

bool program_run(const struct tl_operation *code, size_t length)
{
    assert_true(program_is_valid(code, length));
    program_hit = (struct tl_hit){.area = program_world.area,
                                  .lane = world_lane(&program_world, 0),
                                  .regs = &regs,
                                  .fs_base = program_fs_base,
                                  .tid_site = 77,
                                  .watched = program_watched};
    return tl_fetch_run(&program_hit, code);
}
