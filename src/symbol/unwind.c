/* SPDX-License-Identifier: MIT
 *
 * A walk up one stack.
 *
 * libdwfl does it by the unwind tables. Where code has none (C libraries and assembly without them, Go), it goes on by
 * the frame pointer that the code may never have set up, so what it then finds is believed only if it is the address
 * behind a call; otherwise the walk ends. Better than guessing are three places where the next frame is certain
 * although no table describes it, taken here by hand: at the first instruction of a function and at its ret, the caller
 * is on top of the stack; and behind a signal handler, the stack holds the registers that the kernel has saved.
 *
 * After such a step libdwfl starts anew from there.
 */
#include <string.h>

#include "insn/insn.h"
#include "symbol/object.h"
#include "symbol/unwinder.h"

enum { CALL_MAX = 8, WORD = 8, STACK_USUAL = 8 << 20 };

struct walk {
    const struct tl_modules *modules;
    const struct tl_snapshot *snapshot;
    struct tl_frame *frames;
    size_t count, most;
    uint64_t regs[TL_UNWIND_REGS]; /* where libdwfl starts */
    bool starts_behind_call;       /* then rip is 1 less than the return address */
    bool first;                    /* no frame since the start */
    bool certain;                  /* the last frame has an unwind table, so that the next is right */
    bool again;                    /* start anew, from `regs` */
    bool lost;                     /* it led out of all files */
    bool cut;                      /* what the last frame's caller is, stands above the copied bytes */
};

static bool read_word(struct walk *walk, uint64_t addr, uint64_t *word)
{
    const struct tl_snapshot *snapshot = walk->snapshot;
    uint64_t at = addr - snapshot->stack_addr;
    if (snapshot->stack_size < WORD || at > snapshot->stack_size - WORD) {
        walk->cut |= at < STACK_USUAL; /* the same stack, as far as stacks usually reach */
        return false;
    }
    memcpy(word, snapshot->stack + at, WORD);
    return true;
}

/* Callbacks of libdwfl. What lies outside of the copied piece is unknown: by now it may be something else. */
static bool read_memory(Dwfl *dwfl, Dwarf_Addr addr, Dwarf_Word *word, void *context)
{
    struct walk *walk = *(struct walk **)context;
    (void)dwfl;
    return read_word(walk, addr, word);
}

static bool set_registers(Dwfl_Thread *thread, void *context)
{
    const struct walk *walk = *(struct walk **)context;
    return dwfl_thread_state_registers(thread, 0, TL_UNWIND_REGS, walk->regs);
}

static pid_t next_thread(Dwfl *dwfl, void *context, void **thread_context)
{
    (void)dwfl;
    (void)context;
    (void)thread_context;
    return 0;
}

static bool get_thread(Dwfl *dwfl, pid_t tid, void *context, void **thread_context)
{
    (void)dwfl;
    (void)tid;
    *thread_context = context;
    return true;
}

bool unwind_attach(Dwfl *dwfl, struct tl_unwinder *unwinder)
{
    static const Dwfl_Thread_Callbacks callbacks = {.next_thread = next_thread,
                                                    .get_thread = get_thread,
                                                    .memory_read = read_memory,
                                                    .set_initial_registers = set_registers};
    return dwfl_attach_state(dwfl, NULL, unwinder->pid, &callbacks, &unwinder->walk);
}

/* The file's bytes from a live address on: those in memory may be a probe's jump. */
static const uint8_t *text_at(const struct walk *walk, uint64_t addr, size_t *available)
{
    const struct tl_module *module = tl_modules_at(walk->modules, addr);
    return module && module->object ? tl_object_text(module->object, addr - module->bias, available) : NULL;
}

static bool is_behind_call(const struct walk *walk, uint64_t addr)
{
    for (size_t length = 2; length < CALL_MAX; length++) {
        size_t available;
        struct tl_insn insn;
        const uint8_t *text = text_at(walk, addr - length, &available);
        if (text && available >= length && !tl_insn_decode(text, length, addr - length, &insn) &&
            insn.length == length && (insn.flow == TL_FLOW_CALL || insn.flow == TL_FLOW_CALL_INDIRECT))
            return true;
    }
    return false;
}

static bool has_table(const struct tl_module *module, uint64_t addr)
{
    if (!module->object)
        return false;
    object_need_frames(module->object);
    return object_frame_at(module->object, addr - module->bias) != NULL;
}

/* At a function's first instruction and at its ret: the word on top of the stack is where the caller goes on. */
static bool step_to_caller(struct walk *walk, const struct tl_object *object, uint64_t addr, uint64_t pc)
{
    const struct tl_function *function = tl_object_function_at(object, addr);
    size_t available;
    struct tl_insn insn;
    uint64_t caller;
    const uint8_t *text = text_at(walk, pc, &available);
    bool at_ret = text && !tl_insn_decode(text, available, pc, &insn) && insn.flow == TL_FLOW_RET;
    if ((!at_ret && !(function && function->addr == addr && function->kind != TL_FUNCTION_PART)) ||
        !read_word(walk, walk->regs[TL_UNWIND_RSP], &caller) || !is_behind_call(walk, caller))
        return false;
    walk->regs[TL_UNWIND_RSP] += WORD;
    walk->regs[TL_UNWIND_RIP] = caller - 1;
    walk->starts_behind_call = true;
    return true;
}

/* At the code that signal handlers return to (mov $15, %rax or %eax; syscall): the interrupted registers stand in the
 * signal frame, at rsp. */
static bool step_to_interrupted(struct walk *walk, uint64_t pc)
{
    static const uint8_t codes[2][9] = {{0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 5}, {0xb8, 15, 0, 0, 0, 0x0f, 5}};
    static const uint8_t order[TL_UNWIND_REGS] = {8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16};
    enum { REGISTERS_AT = 40 };
    size_t available;
    const uint8_t *text = text_at(walk, pc, &available);
    if (!text || ((available < 9 || memcmp(text, codes[0], 9)) && (available < 7 || memcmp(text, codes[1], 7))))
        return false;
    uint64_t from = walk->regs[TL_UNWIND_RSP] + REGISTERS_AT, regs[TL_UNWIND_REGS];
    for (size_t i = 0; i < TL_UNWIND_REGS; i++)
        if (!read_word(walk, from + WORD * i, &regs[order[i]]))
            return false;
    memcpy(walk->regs, regs, sizeof regs);
    walk->starts_behind_call = false;
    walk->frames[walk->count - 1].is_return = false; /* nobody called it */
    return true;
}

/* The registers of a frame as libdwfl knows them. Where one is lost, nothing can be found by it. */
static void get_registers(Dwfl_Frame *state, uint64_t regs[TL_UNWIND_REGS])
{
    for (unsigned i = 0; i < TL_UNWIND_RIP; i++) {
        Dwarf_Word value;
        regs[i] = dwfl_frame_reg(state, i, &value) ? 0 : value;
    }
}

/* A frame without a table, in a file: can the next one be told for certain? */
static bool step_by_hand(struct walk *walk, Dwfl_Frame *state, const struct tl_module *module, uint64_t pc,
                         bool is_return)
{
    if (!module->object)
        return false;
    get_registers(state, walk->regs);
    return step_to_interrupted(walk, pc) || (!is_return && step_to_caller(walk, module->object, pc - module->bias, pc));
}

static int on_frame(Dwfl_Frame *state, void *context)
{
    struct walk *walk = context;
    Dwarf_Addr pc;
    bool is_activation, first = walk->first;
    walk->cut = false; /* so far; to tell what sort of frame this is, libdwfl may look for the next one */
    if (!dwfl_frame_pc(state, &pc, &is_activation))
        return DWARF_CB_ABORT;
    if (first && walk->starts_behind_call) {
        pc++;
        is_activation = false;
    }
    if (pc == 0 || (!first && !walk->certain && !is_behind_call(walk, pc)))
        return DWARF_CB_ABORT;
    if (walk->count == walk->most) {
        walk->cut = true;
        return DWARF_CB_ABORT;
    }
    walk->first = false;
    walk->frames[walk->count++] = (struct tl_frame){.addr = pc, .is_return = !is_activation};

    uint64_t inside = is_activation ? pc : pc - 1;
    const struct tl_module *module = tl_modules_at(walk->modules, inside);
    walk->lost = !module;
    if (!module)
        return DWARF_CB_ABORT;
    walk->certain = has_table(module, inside);
    if (walk->certain)
        return DWARF_CB_OK;
    walk->again = step_by_hand(walk, state, module, pc, !is_activation);
    return walk->again ? DWARF_CB_ABORT : DWARF_CB_OK;
}

/* Returns whether the walk ended in code of no file. */
static bool walk_up(struct tl_unwinder *unwinder, struct walk *walk)
{
    walk->modules = &unwinder->modules;
    walk->count = 0;
    walk->starts_behind_call = walk->lost = walk->cut = false;
    memcpy(walk->regs, walk->snapshot->regs, sizeof walk->regs);
    unwinder->walk = walk;
    do {
        walk->first = true;
        walk->again = false;
        if (unwinder->dwfl)
            dwfl_getthread_frames(unwinder->dwfl, unwinder->pid, on_frame, walk);
    } while (walk->again);
    unwinder->walk = NULL;
    return walk->lost;
}

size_t tl_unwind(struct tl_unwinder *unwinder, const struct tl_snapshot *snapshot, struct tl_frame *frames, size_t most,
                 bool *cut)
{
    struct walk walk = {.snapshot = snapshot, .frames = frames, .most = most};
    if (walk_up(unwinder, &walk) && unwinder_refresh(unwinder))
        walk_up(unwinder, &walk);
    if (!walk.count && most)
        frames[walk.count++] = (struct tl_frame){.addr = snapshot->regs[TL_UNWIND_RIP]};
    *cut = walk.cut && !walk.lost;
    return walk.count;
}
