/* SPDX-License-Identifier: MIT */
#include "broker_world.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { ALL_MODES = (1 << MODE_COUNT) - 1 };
enum { PAGE = 4096, NOTES = 4096, SITES = 32, CODE_BYTES = 4 * PAGE, FAILED = 99 };

struct notes {
    uint64_t count, hits;
    struct {
        const char *what;
        uint64_t value;
    } all[NOTES];
    /* Where the child was when the signal came that it died of. */
    uint64_t last_rip, last_rax, last_code, last_addr;
    char failure[200];
};

static struct notes *notes;
static enum broker_mode mode_now;
static struct tl_broker *broker;
extern struct tl_broker *subject_broker;

struct tables {
    struct tl_broker_tables head;
    struct tl_trap traps[SITES];
    struct tl_trap_range ranges[SITES];
    struct tl_mark marks[SITES * TL_COPY_MARKS];
    struct tl_trap_memory memory[1];
    uint64_t returns[1];
};
static struct tables *tables;
static const char *const sites[] = {site_load, site_load_own,     site_divide, site_undefined, site_plain,
                                    site_call, site_call_through, site_own,    site_stepped};
enum { SITE_COUNT = sizeof sites / sizeof sites[0] };
int broker_use_plain_restorer;

enum broker_mode broker_mode(void)
{
    return mode_now;
}

void note(const char *what, uint64_t value)
{
    uint64_t at = __atomic_fetch_add(&notes->count, 1, __ATOMIC_SEQ_CST);
    if (at < NOTES) {
        notes->all[at].what = what;
        notes->all[at].value = value;
    }
}

void broker_failed(const char *what, const char *file, int line)
{
    snprintf(notes->failure, sizeof notes->failure, "%s:%d: not: %s", file, line, what);
    syscall(SYS_exit_group, FAILED);
}

uint64_t broker_hits(void)
{
    return __atomic_load_n(&notes->hits, __ATOMIC_SEQ_CST);
}

struct tl_broker *broker_here(void)
{
    return broker;
}

void broker_poke(uint64_t addr, uint8_t byte)
{
    int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (memory < 0 || pwrite(memory, &byte, 1, (off_t)addr) != 1)
        abort();
    close(memory);
}

static void poke(uint64_t addr, const void *bytes, size_t size)
{
    for (size_t i = size; i-- > 0;)
        broker_poke(addr + i, ((const uint8_t *)bytes)[i]);
}

/* lea rsp, [rsp - 128]; pushfq; push rax; mov rax, imm64; inc [rax]; pop rax; popfq; lea rsp, [rsp + 128] */
static size_t put_hook(uint8_t *out)
{
    static const uint8_t before[] = {0x48, 0x8d, 0x64, 0x24, 0x80, 0x9c, 0x50, 0x48, 0xb8};
    static const uint8_t behind[] = {0xf0, 0x48, 0xff, 0x00, 0x58, 0x9d, 0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0};
    const uint64_t *counter = &notes->hits;
    memcpy(out, before, sizeof before);
    memcpy(out + sizeof before, &counter, 8);
    memcpy(out + sizeof before + 8, behind, sizeof behind);
    return sizeof before + 8 + sizeof behind;
}

/* The program's own int3 is copied by hand. */
static int copy_site(const struct tl_insn *insn, uint64_t at, struct tl_copy *copy)
{
    if (insn->bytes[0] != 0xcc)
        return tl_insn_relocate(insn, at, copy);
    *copy = (struct tl_copy){.code = {0xcc}, .length = 6, .marks_used = 2};
    copy->marks[0] = (struct tl_mark){0, TL_MARK_BEFORE, TL_NO_REG, 0, insn->addr};
    copy->marks[1] = (struct tl_mark){1, TL_MARK_AFTER, TL_NO_REG, 0, insn->addr + 1};
    if (tl_emit_jump(copy->code + 1, at + 1, insn->addr + 1) == 0)
        return 0;
    memcpy(copy->code + 1, "\xff\x25\0\0\0\0", 6); /* jmp [rip] */
    uint64_t back = insn->addr + 1;
    memcpy(copy->code + 7, &back, 8);
    copy->length = 15;
    return 0;
}

static void add_range(const struct tl_insn *insn, uint64_t start, uint64_t end, const struct tl_mark *marks,
                      uint32_t count)
{
    tables->ranges[tables->head.range_count++] = (struct tl_trap_range){.start = start,
                                                                        .end = end,
                                                                        .addr = insn->addr,
                                                                        .first_mark = tables->head.mark_count,
                                                                        .mark_count = count,
                                                                        .length = insn->length};
    memcpy(&tables->marks[tables->head.mark_count], marks, count * sizeof *marks);
    tables->head.mark_count += count;
}

static void add_trap(uint64_t addr, uint64_t to, enum tl_trap_how how)
{
    tables->traps[tables->head.trap_count] = (struct tl_trap){addr, to, how, tables->head.trap_count};
    tables->head.trap_count++;
}

/* A copy, or an int3 that starts a step, and the instruction itself. */
static size_t add_copy(uint8_t *code, const struct tl_insn *insn)
{
    uint64_t at = (uint64_t)(uintptr_t)code;
    if (mode_now == MODE_STEP && insn->bytes[0] != 0xcc && !insn->rip_relative && insn->flow != TL_FLOW_CALL) {
        const struct tl_mark mark = {0, TL_MARK_BEFORE, TL_NO_REG, 0, insn->addr};
        code[0] = 0xcc;
        memcpy(code + 1, insn->bytes, insn->length);
        memcpy(code + 1 + insn->length, "\x0f\x0b", 2); /* nobody comes here */
        add_trap(at, at + 1, TL_TRAP_STEP);
        add_range(insn, at + 1, at + 1 + insn->length, &mark, 1);
        return 1u + insn->length + 2u;
    }
    struct tl_copy copy;
    if (copy_site(insn, at, &copy))
        abort();
    memcpy(code, copy.code, copy.length);
    add_range(insn, at, at + copy.length, copy.marks, copy.marks_used);
    return copy.length;
}

static void add_site(uint8_t **code, const char *site)
{
    struct tl_insn insn;
    uint64_t addr = (uint64_t)(uintptr_t)site, start = (uint64_t)(uintptr_t)*code;
    if (tl_insn_decode((const uint8_t *)site, TL_INSN_MAX, addr, &insn))
        abort();
    size_t hook = put_hook(*code), copy = add_copy(*code + hook, &insn);
    *code += (hook + copy + 15) & ~15u;
    add_trap(addr, start, TL_TRAP_JUMP);
}

static int by_addr(const void *a, const void *b)
{
    uint64_t left = ((const struct tl_trap *)a)->addr, right = ((const struct tl_trap *)b)->addr;
    return left < right ? -1 : left > right;
}

static void seal(void)
{
    qsort(tables->traps, tables->head.trap_count, sizeof tables->traps[0], by_addr);
    if (tl_broker_tables_verify(tables, sizeof *tables))
        abort();
}

static void make_tables(void)
{
    tables = mmap(NULL, sizeof *tables, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(tables != MAP_FAILED);
    tables->head = (struct tl_broker_tables){.magic = TL_BROKER_TABLES_MAGIC, .size = sizeof *tables};
    tables->head.traps = offsetof(struct tables, traps);
    tables->head.ranges = offsetof(struct tables, ranges);
    tables->head.marks = offsetof(struct tables, marks);
    tables->head.memory = offsetof(struct tables, memory);
    tables->head.returns = offsetof(struct tables, returns);
}

void broker_set_trap(uint64_t addr, uint32_t how, uint64_t to)
{
    struct tables *old = tables;
    make_tables();
    *tables = *old;
    uint32_t n = 0;
    while (n < tables->head.trap_count && tables->traps[n].addr != addr)
        n++;
    tables->traps[n] = (struct tl_trap){addr, to ? to : tables->traps[n].to, how, n};
    if (n == tables->head.trap_count)
        tables->head.trap_count++;
    seal();
    tl_broker_publish(broker, (uint64_t)(uintptr_t)tables);
}

static uint8_t *map_code(void)
{
    uintptr_t near = ((uintptr_t)site_load & ~(uintptr_t)(PAGE - 1)) + (64 << 20);
    void *hint = mode_now == MODE_INT3_FAR ? (void *)0x200000000000 : (void *)near;
    void *code =
        mmap(hint, CODE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert(code == hint);
    return code;
}

static void place_probes(void)
{
    uint8_t *code = map_code(), *at = code;
    for (size_t i = 0; i < SITE_COUNT; i++)
        add_site(&at, sites[i]);
    tables->memory[0] = (struct tl_trap_memory){(uint64_t)(uintptr_t)code, (uint64_t)(uintptr_t)code + CODE_BYTES};
    tables->head.memory_count = 1;
    if (mode_now == MODE_GUARDED) { /* behind where it loads the number */
        tables->returns[0] = (uint64_t)(uintptr_t)subject_guarded_restorer + 5;
        tables->head.return_count = 1;
    }
    seal();
    mprotect(code, CODE_BYTES, PROT_READ | PROT_EXEC);
}

static void patch_text(void)
{
    for (size_t i = 0; i < SITE_COUNT; i++) {
        uint64_t addr = (uint64_t)(uintptr_t)sites[i];
        uint8_t jump[5];
        if (mode_now != MODE_JUMP || sites[i] == site_own)
            broker_poke(addr, 0xcc);
        else if (tl_emit_jump(jump, addr, tl_trap_find(&tables->head, addr)->to) == 0)
            poke(addr, jump, sizeof jump);
        else
            abort();
    }
}

static void arm(void)
{
    uint64_t *marker = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(marker, PAGE, MADV_WIPEONFORK);
    *marker = 1;
    broker = mmap(NULL, sizeof *broker, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(broker != MAP_FAILED);
    struct tl_broker_setup setup = {.flags = getauxval(AT_HWCAP2) & 2 ? TL_BROKER_FSGSBASE : TL_BROKER_FS_SELF,
                                    .pid = (uint32_t)getpid(),
                                    .marker = (uint64_t)(uintptr_t)marker,
                                    .entry = (uint64_t)(uintptr_t)tl_broker_entry,
                                    .pass = (uint64_t)(uintptr_t)tl_broker_pass,
                                    .restorer = (uint64_t)(uintptr_t)tl_broker_restorer};
    tl_broker_init(broker, &setup);
    make_tables();
    place_probes();
    tl_broker_publish(broker, (uint64_t)(uintptr_t)tables);
    tl_broker_here = broker;
    for (int number = 1; number <= TL_SIGNALS; number++) {
        struct tl_sigaction old, kernels;
        if (syscall(SYS_rt_sigaction, number, NULL, &old, 8) == 0 &&
            tl_broker_adopt_action(broker, number, &old, &kernels))
            syscall(SYS_rt_sigaction, number, &kernels, NULL, 8);
    }
    uint64_t blocked = 0, trap = TL_SIGNAL_BIT(TL_SIGTRAP), base;
    __asm__("movq %%fs:0, %0" : "=r"(base));
    syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, NULL, &blocked, 8);
    if (blocked & trap) {
        tl_broker_adopt_thread(broker, base, (uint32_t)gettid(), true);
        syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &trap, NULL, 8);
    }
    subject_broker = broker;
    patch_text();
}

static void be_child(enum broker_mode mode, void (*program)(void))
{
    struct rlimit no_core = {0, 0};
    struct sigaction none = {.sa_handler = SIG_DFL};
    uint64_t empty = 0;
    setrlimit(RLIMIT_CORE, &no_core);
    for (int number = 1; number <= TL_SIGNALS; number++)
        sigaction(number, &none, NULL);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &empty, NULL, 8);
    alarm(120); /* a program that hangs has failed */
    mode_now = mode;
    if (mode != MODE_BARE)
        arm();
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    syscall(SYS_tgkill, getpid(), gettid(), SIGSTOP);
    program();
    syscall(SYS_exit_group, 0);
}

/* Let the child run, and keep where it was at its last signal. */
static int attend(pid_t child)
{
    int status;
    for (;;) {
        if (waitpid(child, &status, 0) != child)
            abort();
        if (!WIFSTOPPED(status))
            return status;
        struct user_regs_struct regs;
        struct tl_siginfo info;
        int number = WSTOPSIG(status);
        if (number == SIGSTOP)
            number = 0;
        else if (ptrace(PTRACE_GETREGS, child, 0, &regs) == 0 && ptrace(PTRACE_GETSIGINFO, child, 0, &info) == 0) {
            notes->last_rip = regs.rip;
            notes->last_rax = regs.rax;
            notes->last_code = (uint64_t)info.code;
            notes->last_addr = info.code > 0 ? info.addr : 0;
        }
        ptrace(PTRACE_CONT, child, 0, number);
    }
}

int broker_run(enum broker_mode mode, void (*program)(void))
{
    return broker_run_attended(mode, program, attend);
}

int broker_run_attended(enum broker_mode mode, void (*program)(void), int (*attending)(pid_t child))
{
    if (!notes)
        notes = mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(notes, 0, sizeof *notes);
    pid_t child = fork();
    if (child < 0)
        abort();
    if (child == 0)
        be_child(mode, program);
    int status = attending(child);
    if (notes->failure[0])
        fail_msg("mode %d: %s", mode, notes->failure);
    return status;
}

static void compare(enum broker_mode mode, int status, const struct notes *bare, int bare_status, bool place)
{
    for (uint64_t i = 0; i < bare->count && i < notes->count; i++)
        if (bare->all[i].value != notes->all[i].value || strcmp(bare->all[i].what, notes->all[i].what) != 0)
            fail_msg("mode %d, note %d: %s is %#lx, and was %s %#lx", mode, (int)i, notes->all[i].what,
                     notes->all[i].value, bare->all[i].what, bare->all[i].value);
    if (bare->count != notes->count || bare_status != status)
        fail_msg("mode %d: %d notes and status %#x, bare %d and %#x", mode, (int)notes->count, status, (int)bare->count,
                 bare_status);
    if (place && WIFSIGNALED(status) &&
        (bare->last_rip != notes->last_rip || bare->last_rax != notes->last_rax ||
         bare->last_code != notes->last_code || bare->last_addr != notes->last_addr))
        fail_msg("mode %d: died at %#lx (rax %#lx, code %ld, addr %#lx), bare at %#lx (%#lx, %ld, %#lx)", mode,
                 notes->last_rip, notes->last_rax, (long)notes->last_code, notes->last_addr, bare->last_rip,
                 bare->last_rax, (long)bare->last_code, bare->last_addr);
}

static int check(void (*program)(void), unsigned modes, bool place)
{
    static struct notes bare;
    int bare_status = 0;
    for (int mode = MODE_BARE; mode < MODE_COUNT; mode++) {
        if (!(modes >> mode & 1))
            continue;
        int status = broker_run((enum broker_mode)mode, program);
        if (mode == MODE_BARE) {
            bare = *notes;
            bare_status = status;
        }
        assert_true(notes->count <= NOTES);
        compare((enum broker_mode)mode, status, &bare, bare_status, place);
    }
    return bare_status;
}

int broker_check_same(void (*program)(void))
{
    return check(program, ALL_MODES, true);
}

int broker_check_same_end(void (*program)(void))
{
    return check(program, ALL_MODES, false);
}

int broker_check_same_seen(void (*program)(void))
{
    return check(program, 1u << MODE_BARE | 1u << MODE_GUARDED, true);
}

struct tl_sigaction broker_action(broker_handler *handler, uint64_t flags, uint64_t mask_of)
{
    bool is_guarded = mode_now == MODE_GUARDED && !broker_use_plain_restorer;
    void (*restorer)(void) = is_guarded ? subject_guarded_restorer : subject_restorer;
    return (struct tl_sigaction){(uint64_t)(uintptr_t)handler, flags | TL_SA_RESTORER, (uint64_t)(uintptr_t)restorer,
                                 mask_of};
}

static bool has_siginfo[TL_SIGNALS + 1];

void handle(int number, broker_handler *handler, uint64_t flags, uint64_t mask_of)
{
    has_siginfo[number] = (flags & TL_SA_SIGINFO) != 0;
    struct tl_sigaction action = broker_action(handler, flags, mask_of);
    CHECK(sys(SYS_rt_sigaction, (uint64_t)number, &action, 0ul, 8ul) == 0);
}

uint64_t mask(int how, uint64_t set)
{
    uint64_t old = 0x5a5a;
    CHECK(sys(SYS_rt_sigprocmask, (uint64_t)how, &set, &old, 8ul) == 0);
    return old;
}

void note_all(int number, const struct tl_siginfo *info, const struct tl_context *context)
{
    note("number", (uint64_t)number);
    if (has_siginfo[number]) {
        note("info number", (uint64_t)info->number);
        note("code", (uint64_t)info->code);
        if (info->code > 0)
            note("addr", info->addr);
    }
    note("rip", context->rip);
    note("rsp", context->rsp);
    note("rax", context->rax);
    note("rdi", context->rdi);
    note("r10", context->r10);
    note("r11", context->r11);
    note("flags", context->rflags & ~(uint64_t)TL_FLAG_RESUME);
    note("vector", context->vector);
    note("mask", context->mask);
    note("mask now", mask(0, 0));
    note("frame is near", context->rsp - (uint64_t)(uintptr_t)info < 16384);
    note("frame is aligned", (uint64_t)(uintptr_t)context % 16);
    note("vector state is aligned", context->fpstate % 64);
    note("vector state is near", context->fpstate - (uint64_t)(uintptr_t)context < 1024);
}
