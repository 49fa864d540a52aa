/* SPDX-License-Identifier: MIT */
#include "live.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "hit/broker.h"
#include "probe/traps.h"

enum { PAGE = 4096, TRAP_FLAG = 0x100 };

volatile size_t live_trap_count;
static struct tl_broker_tables *tables;
static void (*pass_on)(void *context);
static const struct tl_trap *stepping;

int live_map(const struct tl_plan *plan)
{
    const int fixed = MAP_PRIVATE | MAP_FIXED_NOREPLACE;
    int pool = memfd_create("pool", MFD_CLOEXEC);
    if (pool < 0 || write(pool, plan->pool, plan->pool_size) != (ssize_t)plan->pool_size)
        return 12;
    for (size_t i = 0; i < plan->map_count; i++) {
        const struct tl_plan_map *map = &plan->maps[i];
        if (mmap((void *)map->addr, map->size, PROT_READ | PROT_EXEC, fixed, pool, (off_t)map->pool) !=
            (void *)map->addr)
            return 13;
    }
    for (size_t i = 0; i < plan->gate_count; i++)
        if (mmap((void *)plan->gates[i].addr, PAGE, PROT_READ | PROT_WRITE, fixed | MAP_ANONYMOUS, -1, 0) !=
            (void *)plan->gates[i].addr)
            return 14;
    close(pool);
    for (size_t i = 0; i < plan->fill_count; i++) {
        const struct tl_plan_fill *fill = &plan->fills[i];
        if (live_open_text(fill->addr, fill->length))
            return 15;
        memcpy((void *)fill->addr, plan->fill_bytes + fill->offset, fill->length);
    }
    return 0;
}

void live_unmap(const struct tl_plan *plan)
{
    for (size_t i = 0; i < plan->map_count; i++)
        munmap((void *)plan->maps[i].addr, plan->maps[i].size);
    for (size_t i = 0; i < plan->gate_count; i++)
        munmap((void *)plan->gates[i].addr, PAGE);
}

int live_open_text(uint64_t addr, size_t size)
{
    uint64_t page = addr / PAGE * PAGE;
    return mprotect((void *)page, addr + size - page, PROT_READ | PROT_WRITE | PROT_EXEC) ? 18 : 0;
}

void live_write(const struct tl_plan *plan)
{
    for (size_t i = 0; i < plan->write_count; i++)
        memcpy((void *)plan->writes[i].addr, plan->writes[i].new_bytes, plan->writes[i].length);
}

void live_take_back(const struct tl_plan *plan)
{
    for (size_t i = plan->write_count; i-- > 0;)
        memcpy((void *)plan->writes[i].addr, plan->writes[i].old_bytes, plan->writes[i].length);
}

/* The stepped instruction is done: what it made of its own address belongs to the original's. */
static void end_step(greg_t *registers)
{
    const struct tl_trap_range *range = tl_trap_range_find(tables, stepping->to);
    uint64_t behind = range->end;
    if ((uint64_t)registers[REG_RIP] == behind)
        registers[REG_RIP] = (greg_t)(range->addr + range->length);
    uint64_t *top = (uint64_t *)registers[REG_RSP];
    if (*top == behind)
        *top = range->addr + range->length;
    registers[REG_EFL] &= ~TRAP_FLAG;
    stepping = NULL;
}

static void on_trap(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (stepping) {
        end_step(registers);
        return;
    }
    const struct tl_trap *trap = tables ? tl_trap_find(tables, (uint64_t)registers[REG_RIP] - 1) : NULL;
    if (!trap) {
        pass_on(context);
        return;
    }
    live_trap_count++;
    registers[REG_RIP] = (greg_t)trap->to;
    if (trap->how == TL_TRAP_STEP) {
        stepping = trap;
        registers[REG_EFL] |= TRAP_FLAG;
    }
}

static void nobodys(void *context)
{
    (void)context;
    _exit(10);
}

int live_traps(const struct tl_site *sites, size_t count, void (*other)(void *context))
{
    static void *image;
    size_t size;
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    if (tl_traps_of_sites(sites, count, NULL, 0, &image, &size) || tl_broker_tables_verify(image, size))
        return 25;
    free(tables);
    tables = image;
    pass_on = other ? other : nobodys;
    return sigaction(SIGTRAP, &action, NULL) ? 26 : 0;
}
