/* SPDX-License-Identifier: MIT */
#include "call_world.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "probe/hook.h"

enum { PAGE = 4096, CODE_BYTES = 64 * PAGE };

static uint8_t *code, *next_code;
static struct tl_gate *gate;

bool call_world_peek(uint64_t addr, uint64_t *word)
{
    struct iovec to = {word, 8}, from = {(void *)(uintptr_t)addr, 8};
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 8;
}

static int emulate_ret(const struct tl_emulation *emulation, struct tl_regs *regs)
{
    (void)emulation;
    regs->rip = *(const uint64_t *)regs->rsp;
    regs->rsp += 8;
    return 0;
}

static void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    return memory;
}

void call_world_make(size_t records)
{
    char *base;
    __asm__("mov %%fs:0, %0" : "=r"(base));
    struct tl_call_platform platform = {
        .peek = call_world_peek, .emulate = emulate_ret, .errno_offset = (char *)&errno - base};
    tl_call_setup(&platform);
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0))
        abort();
    if (!code) {
        gate = map(PAGE + CODE_BYTES);
        next_code = code = (uint8_t *)gate + PAGE;
        gate->call = (uint64_t)(uintptr_t)tl_call_enter;
    }
    if (!records)
        return;
    uint8_t *memory = map(records * TL_CALL_THREAD_BYTES);
    for (size_t i = 0; i < records; i++)
        mprotect(memory + i * TL_CALL_THREAD_BYTES, PAGE, PROT_NONE);
    tl_call_pool_add(calloc(1, tl_call_pool_size(records)), memory, records);
}

/* lea rsp, [rsp - 128]; push index; call [rip + gate.call]; lea rsp, [rsp + 136] */
static size_t put_hook(uint8_t *at, uint32_t index)
{
    uint8_t bytes[] = {0x48, 0x8d, 0x64, 0x24, 0x80, 0x68, 0,    0,    0,    0, 0xff, 0x15,
                       0,    0,    0,    0,    0x48, 0x8d, 0xa4, 0x24, 0x88, 0, 0,    0};
    int32_t distance = (int32_t)((uint8_t *)&gate->call - (at + 16));
    memcpy(bytes + 6, &index, 4);
    memcpy(bytes + 12, &distance, 4);
    memcpy(at, bytes, sizeof(bytes));
    return sizeof(bytes);
}

static void *finish(uint8_t *end)
{
    uint8_t *start = next_code;
    if (end > code + CODE_BYTES || mprotect(code, CODE_BYTES, PROT_READ | PROT_EXEC))
        abort();
    next_code = (uint8_t *)(((uintptr_t)end + 15) & ~(uintptr_t)15);
    return start;
}

static uint8_t *begin(void)
{
    if (mprotect(code, CODE_BYTES, PROT_READ | PROT_WRITE))
        abort();
    return next_code;
}

void *call_world_two(uint32_t index, const void *body, size_t size, uint32_t second, const void *rest, size_t rest_size)
{
    uint8_t *at = begin();
    at += put_hook(at, index);
    memcpy(at, body, size);
    at += size;
    if (rest) {
        at += put_hook(at, second);
        memcpy(at, rest, rest_size);
        at += rest_size;
    }
    return finish(at);
}

void *call_world_code(uint32_t index, const void *body, size_t size)
{
    return call_world_two(index, body, size, 0, NULL, 0);
}

uint8_t *call_world_room(const void *bytes, size_t size)
{
    uint8_t *at = begin();
    memcpy(at, bytes, size);
    return finish(at + size);
}

call_fn *call_world_function(void *start)
{
    call_fn *function;
    memcpy(&function, &start, sizeof(function));
    return function;
}

void call_world_barrier(void)
{
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
        abort();
}

static void put_list(uint32_t index, const struct tl_call_action *actions, size_t count,
                     const struct tl_emulation *emulation)
{
    struct tl_call_place place = {.index = index, .address = 0x1000 + index, .emulation = emulation};
    struct tl_call_list *list = NULL;
    if (count) {
        list = aligned_alloc(16, (tl_call_list_size(count) + 15) & ~(size_t)15);
        tl_call_list_init(list, &place, actions, count);
    }
    const struct tl_call_list *old = tl_call_swap(index, list);
    call_world_barrier();
    while (old && !tl_call_quiet(old))
        sched_yield();
    if (old)
        memset((void *)(uintptr_t)old, 0xee, tl_call_list_size(1)); /* so that nobody can use it unseen */
    free((void *)(uintptr_t)old);
}

void call_world_list(uint32_t index, const struct tl_call_action *actions, size_t count)
{
    put_list(index, actions, count, NULL);
}

void call_world_list_at_ret(uint32_t index, const struct tl_call_action *actions, size_t count)
{
    static const uint64_t ret; /* the test's emulator knows nothing else */
    put_list(index, actions, count, (const struct tl_emulation *)&ret);
}
