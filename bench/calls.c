/* SPDX-License-Identifier: MIT */
#include "calls.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hit/call.h"

enum { MAX_ACTIVE = 256, THREADS = 4 };

uint64_t calls_returned;
static uint64_t counter;
static struct tl_probe probe;
static struct tl_return_probe return_probe;

static int handle(struct tl_probe *unused, struct tl_regs *regs)
{
    (void)unused;
    counter += regs != NULL;
    return 0;
}

static void returned(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance;
    calls_returned += regs != NULL;
}

static void *zeroed(size_t size)
{
    size = (size + 63) & ~(size_t)63;
    return memset(aligned_alloc(64, size), 0, size);
}

static void list(uint32_t index, struct tl_call_action action)
{
    struct tl_call_list *made = zeroed(tl_call_list_size(1));
    tl_call_list_init(made, &(struct tl_call_place){.index = index, .address = 0x1000}, &action, 1);
    tl_call_swap(index, made);
}

static struct tl_call_action handler(uint32_t flags)
{
    return (struct tl_call_action){.kind = TL_CALL_PRE, .flags = flags, .probe = &probe, .pre = handle};
}

static struct tl_call_action of_calls(enum tl_call_kind kind, struct tl_call_return *calls)
{
    return (struct tl_call_action){.kind = kind, .flags = TL_PROBE_GENERAL, .calls = calls};
}

static struct tl_call_return *follow(uint64_t stub)
{
    struct tl_call_return_shape shape = {
        .probe = &return_probe, .handler = returned, .stub = stub, .max_active = MAX_ACTIVE};
    struct tl_call_return *calls = zeroed(tl_call_return_size(&shape));
    tl_call_return_init(calls, &shape);
    return calls;
}

void calls_make(struct world *world)
{
    static const struct tl_hook none = {.kind = TL_HOOK_NONE};
    uint8_t stub[TL_CALL_STUB_BYTES];
    tl_call_setup(&(struct tl_call_platform){.peek = NULL});
    void *memory =
        mmap(NULL, THREADS * TL_CALL_THREAD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    tl_call_pool_add(zeroed(tl_call_pool_size(THREADS)), memory, THREADS);
    world->gate->call = (uint64_t)(uintptr_t)tl_call_enter;
    list(CALLS_GENERAL, handler(TL_PROBE_GENERAL));
    list(CALLS_OWN_STACK, handler(TL_PROBE_GENERAL | TL_PROBE_OWN_STACK));
    list(CALLS_VECTORS, handler(0));
    struct tl_call_return *by_exit = follow(0);
    list(CALLS_ENTRY, of_calls(TL_CALL_ENTRY, by_exit));
    list(CALLS_EXIT, of_calls(TL_CALL_EXIT, by_exit));
    tl_call_return_stub(CALLS_STUB, stub);
    struct tl_call_return *by_stub = follow((uint64_t)(uintptr_t)world_trampoline(world, &none, stub, sizeof(stub)));
    list(CALLS_STUB, of_calls(TL_CALL_BACK, by_stub));
    list(CALLS_REWRITE, of_calls(TL_CALL_ENTRY, by_stub));
}

#define ZMM(n) "vpternlogd $0xff, %%zmm" #n ", %%zmm" #n ", %%zmm" #n ";"
#define YMM(n) "vpcmpeqd %%ymm" #n ", %%ymm" #n ", %%ymm" #n ";"
#define MASK(n) "kxnorw %%k" #n ", %%k" #n ", %%k" #n ";"
#define EACH8(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7)

void calls_use_vectors(void)
{
    if (__builtin_cpu_supports("avx512f"))
        __asm__ volatile(EACH8(ZMM) ZMM(16) ZMM(24) ZMM(31) EACH8(MASK) : : : "memory");
    else if (__builtin_cpu_supports("avx"))
        __asm__ volatile(EACH8(YMM) : : : "memory");
}

void calls_use_x87(void)
{
    __asm__ volatile("fldz; fstp %%st(0)" : : : "st");
}

void calls_drop_vectors(void)
{
    static const uint8_t initial[8192] __attribute__((aligned(64)));
    if (__builtin_cpu_supports("avx512f"))
        __asm__ volatile("xrstor %0" : : "m"(initial), "a"(0xa1), "d"(0) : "memory");
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vzeroupper" : : : "memory");
}
