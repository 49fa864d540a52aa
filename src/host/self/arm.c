/* SPDX-License-Identifier: MIT
 *
 * Taking the signals over, and giving them back. The broker (src/hit/broker.h) says what is to be done; here it is done
 * to this process, with all other threads standing still: a thread that blocked SIGTRAP between the look at its mask
 * and the guard on its system call would die of the first breakpoint.
 *
 *   arm:    guards planned, mapped, published; stop; actions; masks; the guards' text; go on
 *   disarm: stop; threads out of guards; the guards' text; masks; actions, SIGTRAP through SIG_IGN first, which throws
 *           away one that is pending; go on; a SIGTRAP of the program's is sent again
 *
 * While the others stand still nothing is allocated, and of the program no lock is taken.
 */
#include "host/self/internal.h"
#include "host/self/world.h"

#include "hit/abi.h"
#include "hit/broker.h"

#include <asm/prctl.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

/* DISARM_TRIES: where many threads change their masks all the time, few looks find all of them outside of guards. */
enum { ARM_TRIES = 50, DISARM_TRIES = 1000, SYSCALL_BYTES = 2 };
enum { PASSING_WORDS = 64, PASS_BYTES = 64 };

static const uint64_t trap_bit = TL_SIGNAL_BIT(TL_SIGTRAP);

static int set_action(int number, const struct tl_sigaction *action)
{
    return (int)CALL(SYS_rt_sigaction, number, action, NULL, 8);
}

static bool is_fixed(int number)
{
    return number == SIGKILL || number == SIGSTOP;
}

static void restore_actions(struct tl_self *self, int below)
{
    while (--below > 0) {
        if (!is_fixed(below))
            set_action(below, &self->actions[below]);
    }
}

static int take_actions(struct tl_self *self)
{
    for (int n = 1; n <= TL_SIGNALS; n++) {
        struct tl_sigaction kernels;
        if (is_fixed(n))
            continue;
        int result = (int)CALL(SYS_rt_sigaction, n, NULL, &self->actions[n], 8);
        if (result == 0 && tl_broker_adopt_action(self->broker, n, &self->actions[n], &kernels))
            result = set_action(n, &kernels);
        if (result) {
            restore_actions(self, n);
            return result;
        }
    }
    return 0;
}

static uint64_t own_fs_base(void)
{
    uint64_t base = 0;
    CALL(SYS_arch_prctl, ARCH_GET_FS, &base);
    return base;
}

static long mask_of(struct tl_world *world, const struct tl_world_task *task, long request, uint64_t *mask)
{
    return tl_world_ptrace(world, request, task->tid, (void *)sizeof *mask, mask);
}

/* Give back, to the first `count` tasks, what the broker says they believe to have. */
static void restore_masks(struct tl_self *self, struct tl_world *world, size_t count)
{
    for (size_t i = 0; world && i < count; i++) {
        const struct tl_world_task *task = &world->tasks[i];
        uint64_t mask;
        if (!tl_broker_blocks_trap(self->broker, task->regs.fs_base) || mask_of(world, task, PTRACE_GETSIGMASK, &mask))
            continue;
        mask |= trap_bit;
        mask_of(world, task, PTRACE_SETSIGMASK, &mask);
    }
}

static int take_masks(struct tl_self *self, struct tl_world *world, struct tl_entered *entered)
{
    long result = 0;
    size_t i;
    for (i = 0; world && i < world->count && result == 0; i++) {
        const struct tl_world_task *task = &world->tasks[i];
        uint64_t mask;
        result = task->outside ? -EBUSY : mask_of(world, task, PTRACE_GETSIGMASK, &mask);
        if (result || !(mask & trap_bit))
            continue;
        result = tl_broker_adopt_thread(self->broker, task->regs.fs_base, (uint32_t)task->tid, true);
        mask &= ~trap_bit;
        if (result == 0)
            result = mask_of(world, task, PTRACE_SETSIGMASK, &mask);
    }
    if (result == 0 && entered->mask & trap_bit) {
        result = tl_broker_adopt_thread(self->broker, own_fs_base(), (uint32_t)CALL(SYS_gettid), true);
        if (result == 0)
            entered->mask &= ~trap_bit;
    }
    if (result)
        restore_masks(self, world, i);
    return (int)result;
}

static int take_over(struct tl_self *self, struct tl_world *world, struct tl_entered *entered, struct tl_writing *text)
{
    int result = take_actions(self);
    if (result)
        return result;
    result = take_masks(self, world, entered);
    if (result == 0) {
        result = tl_writing_stopped(text);
        if (result)
            restore_masks(self, world, world ? world->count : 0);
        if (result && tl_broker_blocks_trap(self->broker, own_fs_base()))
            entered->mask |= trap_bit;
    }
    if (result)
        restore_actions(self, TL_SIGNALS + 1);
    return result;
}

/* All guards' patches, one way or the other. */
static struct tl_patch *all_patches(const struct tl_self *self, bool back, size_t *count)
{
    *count = 0;
    for (const struct tl_guarding *g = self->guarding; g; g = g->next)
        *count += g->patch_count;
    struct tl_patch *patches = calloc(*count + 1, sizeof *patches), *next = patches;
    for (const struct tl_guarding *g = self->guarding; g && patches; g = g->next) {
        for (size_t i = 0; i < g->patch_count; i++, next++) {
            *next = g->patches[i];
            memcpy(next->expect, back ? g->patches[i].bytes : g->patches[i].expect, next->length);
            memcpy(next->bytes, back ? g->patches[i].expect : g->patches[i].bytes, next->length);
        }
    }
    return patches;
}

static int begin_writing(struct tl_self *self, bool back, struct tl_patch **patches, struct tl_writing *text,
                         struct tl_error *error)
{
    size_t count, failed;
    *patches = all_patches(self, back, &count);
    int result = *patches ? tl_writing_begin(text, self, *patches, count, &failed, error)
                          : tl_fail(error, -ENOMEM, "out of memory");
    if (result)
        free(*patches);
    return result;
}

/* Behind the jump of a guard that stands in front of its system call, and not through with it: it would not be seen. */
static bool is_behind_guard(const struct tl_self *self, const struct tl_world *world)
{
    for (const struct tl_guarding *g = self->guarding; g; g = g->next) {
        for (size_t i = 0; i < g->guards.count; i++) {
            const struct tl_site *site = &g->guards.sites[i];
            for (size_t k = 0; site->guard_at && k < world->count; k++) {
                if (world->tasks[k].regs.rip - site->addr - 1 < site->guard_at)
                    return true;
            }
        }
    }
    return false;
}

/* Everybody stands still, and nobody where a guard would come too late. */
static long stop_clear_of_guards(const struct tl_self *self, struct tl_world **world)
{
    for (int i = 0; i < ARM_TRIES; i++) {
        struct timespec t = {0, 1000000};
        long result = tl_world_threads() == 1 ? 0 : tl_world_stop(world);
        if (result || !*world || !is_behind_guard(self, *world))
            return result;
        tl_world_resume(*world);
        *world = NULL;
        CALL(SYS_nanosleep, &t, NULL);
    }
    return -EAGAIN;
}

static int arm_first(struct tl_self *self, struct tl_entered *entered, struct tl_error *error)
{
    struct tl_writing text;
    struct tl_patch *patches;
    struct tl_world *world = NULL;
    tl_broker_begin(self);
    int result = begin_writing(self, false, &patches, &text, error);
    if (result)
        return result;
    result = (int)stop_clear_of_guards(self, &world);
    if (result) {
        tl_explain_stop(error, result);
    } else {
        result = take_over(self, world, entered, &text);
        if (world)
            tl_world_resume(world);
        tl_serialize();
        if (result)
            tl_explain(error, result,
                       result == -ENOSPC  ? "too many threads block SIGTRAP"
                       : result == -EBUSY ? "another process shares this one's memory"
                                          : "signals cannot be kept for probes");
    }
    tl_writing_end(&text);
    free(patches);
    return result;
}

/* The guards in the list come into force, `latest` among them if it is not NULL. */
static int enforce(struct tl_self *self, const struct tl_guarding *latest, struct tl_entered *entered,
                   struct tl_error *error)
{
    size_t failed;
    int result = tl_tables_renew(self, error);
    if (result)
        return result;
    if (!self->armed)
        return arm_first(self, entered, error);
    return latest && latest->patch_count ? tl_patch(self, latest->patches, latest->patch_count, &failed, error) : 0;
}

static int arm(struct tl_self *self, const struct tl_modules *modules, struct tl_entered *entered,
               struct tl_error *error)
{
    struct tl_guarding *g = NULL;
    if (!self->armed)
        tl_guardings_revive(self, modules);
    int result = tl_guarding_make(self, modules, &g, error);
    if (result == 0 && !g && !self->guarding)
        result = tl_fail(error, -ENOENT, "no code is known");
    if (result == 0 && (g || !self->armed)) {
        if (g) {
            g->next = self->guarding;
            self->guarding = g;
        }
        result = enforce(self, g, entered, error);
        if (result && g) {
            self->guarding = g->next;
            tl_guarding_free(self, g, !self->armed || tl_nobody_inside(self, &g->plan));
        }
    }
    if (result == 0)
        self->armed = true;
    if (!self->armed)
        tl_guardings_retire(self);
    if (result)
        (void)tl_tables_renew(self, NULL); /* what names too much does no harm */
    return result;
}

int tl_self_arm(struct tl_self *self, const struct tl_modules *modules, struct tl_error *error)
{
    struct tl_entered entered;
    int result = tl_enter(self, &entered);
    if (result)
        return tl_explain(error, result, "signals cannot be held off");
    result = arm(self, modules, &entered, error);
    tl_leave(&entered);
    return result;
}

bool tl_self_armed(const struct tl_self *self)
{
    return __atomic_load_n(&self->armed, __ATOMIC_RELAXED);
}

static long set_registers(struct tl_world *world, const struct tl_world_task *task, struct user_regs_struct *regs)
{
    struct iovec io = {regs, sizeof *regs};
    return tl_world_ptrace(world, PTRACE_SETREGSET, task->tid, (void *)NT_PRSTATUS, &io);
}

/* One that a guard has sent to sleep makes its call again, at its own place. */
static long wake(struct tl_world *world, const struct tl_world_task *task)
{
    struct user_regs_struct regs = task->regs;
    const uint64_t *r = ((const struct tl_hit_regs *)regs.rsp)->r;
    regs.rax = r[TL_RAX], regs.rcx = r[TL_RCX], regs.rdx = r[TL_RDX], regs.rbx = r[TL_RBX];
    regs.rsp = r[TL_RSP], regs.rbp = r[TL_RBP], regs.rsi = r[TL_RSI], regs.rdi = r[TL_RDI];
    regs.r8 = r[TL_R8], regs.r9 = r[TL_R9], regs.r10 = r[TL_R10], regs.r11 = r[TL_R11];
    regs.r12 = r[TL_R12], regs.r13 = r[TL_R13], regs.r14 = r[TL_R14], regs.r15 = r[TL_R15];
    regs.rip = r[TL_RIP] - SYSCALL_BYTES;
    regs.eflags = r[TL_RFLAGS];
    regs.orig_rax = (unsigned long long)-1;
    return set_registers(world, task, &regs);
}

static bool returns_to_guard(const struct tl_self *self, const uint64_t *words, size_t count)
{
    for (const struct tl_guarding *g = self->guarding; g; g = g->next) {
        for (size_t i = 0; i < g->plan.map_count; i++) {
            const struct tl_plan_map *map = &g->plan.maps[i];
            for (size_t k = 0; k < count; k++) {
                if (words[k] - map->addr < map->size)
                    return true;
            }
        }
    }
    return false;
}

/* Somewhere in what a guard calls: the system call that it makes afterwards is one that the guard has made up. (Or what
 * an earlier guard has left on the stack looks so: the thread is in what runs on a hit then, and soon elsewhere.) */
static bool is_in_guard(const struct tl_self *self, const struct tl_world_task *task)
{
    uint64_t words[TL_BROKER_DEPTH / 8];
    return tl_is_own(self, task->regs.rip) &&
           returns_to_guard(self, words, tl_peek(task->regs.rsp, words, sizeof words) / 8);
}

/* On the way to a handler, or back from one, in the broker's code for that: soon over. */
static bool is_passing(const struct tl_self *self, const struct tl_world_task *task)
{
    uint64_t words[PASSING_WORDS], rip = task->regs.rip;
    const uint64_t pass = (uint64_t)tl_broker_pass, leaves = (uint64_t)tl_guard_leaves;
    if (rip - pass < PASS_BYTES || rip - leaves <= (uint64_t)tl_guard_has_left - leaves)
        return true;
    size_t count = tl_is_own(self, rip) ? tl_peek(task->regs.rsp, words, sizeof words) / 8 : 0;
    for (size_t i = 0; i < count; i++) {
        if (words[i] == (uint64_t)tl_broker_passed)
            return true;
    }
    return false;
}

/* A thread that stands in a guard goes to where it would be without: 0; -EAGAIN: it has to run on first. */
static long move_out(struct tl_self *self, struct tl_world *world, const struct tl_world_task *task)
{
    struct user_regs_struct regs = task->regs;
    if (regs.rip == (uint64_t)tl_guard_asleep)
        return wake(world, task);
    if (tl_comes_to_broker(self, world, task) || is_in_guard(self, task) || is_passing(self, task))
        return -EAGAIN;
    for (const struct tl_guarding *g = self->guarding; g; g = g->next) {
        uint64_t original;
        int fix_rcx = 0;
        int result = tl_plan_locate(g->guards.sites, g->guards.count, &g->plan, regs.rip, &original, &fix_rcx);
        if (result == -ENOENT)
            continue;
        if (result)
            return result;
        regs.rip = original;
        if (fix_rcx)
            regs.rcx = original;
        return set_registers(world, task, &regs);
    }
    return 0;
}

/* Going back cannot fail halfway: what the kernel took once it takes again. */
static void give_back(struct tl_self *self, struct tl_world *world, struct tl_entered *entered)
{
    static const struct tl_sigaction ignore = {.handler = TL_SIG_IGN};
    restore_masks(self, world, world ? world->count : 0);
    if (tl_broker_blocks_trap(self->broker, own_fs_base())) {
        entered->mask |= trap_bit;
        CALL(SYS_rt_sigprocmask, SIG_BLOCK, &trap_bit, NULL, 8);
    }
    for (int n = 1; n <= TL_SIGNALS; n++) {
        struct tl_sigaction kernels, programs;
        if (is_fixed(n) || CALL(SYS_rt_sigaction, n, NULL, &kernels, 8) ||
            !tl_broker_restore_action(self->broker, n, &kernels, &programs))
            continue;
        if (n == TL_SIGTRAP)
            set_action(n, &ignore);
        set_action(n, &programs);
    }
}

/* Signals of the program's that the broker kept. To other threads the kernel lets only a plain one through. */
static void send_again(struct tl_self *self, const struct tl_world *world)
{
    struct tl_siginfo info;
    if (tl_broker_pending(self->broker, 0, &info))
        CALL(SYS_rt_sigqueueinfo, self->pid, TL_SIGTRAP, &info);
    if (tl_broker_pending(self->broker, own_fs_base(), &info))
        CALL(SYS_rt_tgsigqueueinfo, self->pid, CALL(SYS_gettid), TL_SIGTRAP, &info);
    for (size_t i = 0; world && i < world->count; i++) {
        if (tl_broker_pending(self->broker, world->tasks[i].regs.fs_base, &info))
            CALL(SYS_tgkill, self->pid, world->tasks[i].tid, TL_SIGTRAP);
    }
}

static int disarm_once(struct tl_self *self, struct tl_writing *text, struct tl_entered *entered)
{
    struct tl_world *world = NULL;
    long result = tl_world_threads() == 1 ? 0 : tl_world_stop(&world);
    if (result)
        return (int)result;
    for (size_t i = 0; world && i < world->count && result == 0; i++)
        result = move_out(self, world, &world->tasks[i]);
    if (result == 0)
        result = tl_writing_stopped(text);
    if (result == 0) {
        give_back(self, world, entered);
        send_again(self, world);
        self->armed = false;
    }
    if (world)
        tl_world_resume(world);
    tl_serialize();
    return (int)result;
}

static int disarm(struct tl_self *self, struct tl_entered *entered, struct tl_error *error)
{
    struct tl_writing text;
    struct tl_patch *patches;
    if (self->part_count)
        return tl_fail(error, -EBUSY, "there are probes left");
    int result = begin_writing(self, true, &patches, &text, error);
    if (result)
        return result;
    for (int i = 0;; i++) { /* somebody may stand in a guard's first instructions, or handle a signal */
        result = disarm_once(self, &text, entered);
        struct timespec t = {0, 1000000};
        if (result != -EAGAIN || i == DISARM_TRIES)
            break;
        CALL(SYS_nanosleep, &t, NULL);
    }
    if (result)
        tl_explain_stop(error, result);
    tl_writing_end(&text);
    free(patches);
    if (result == 0) {
        tl_guardings_retire(self);
        (void)tl_tables_renew(self, NULL); /* what names too much does no harm */
    }
    return result;
}

int tl_self_disarm(struct tl_self *self, struct tl_error *error)
{
    struct tl_entered entered;
    int result = tl_enter(self, &entered);
    if (result)
        return tl_explain(error, result, "signals cannot be held off");
    if (self->armed)
        result = disarm(self, &entered, error);
    tl_leave(&entered);
    return result;
}
