/* SPDX-License-Identifier: MIT
 *
 * Finding the system calls to guard. The bytes 0f 05 are searched for in all executable segments; where they are found,
 * the function that holds them is read from its beginning (or, where no function is known, everything between the two
 * known ones around), to see whether an instruction begins there.
 *
 * Where the number follows from the code (constants.c) and is of no interest, no guard is needed. What is not known is
 * guarded, and asks when it is executed.
 *
 * Handlers return by way of a *restorer*, and whoever unwinds a stack has to know it as what it is. The GNU C library
 * says so in its unwind tables, which count first; other C libraries rely on the bytes, which unwinders know by heart.
 * So there is a guard in the former, and none in the latter.
 */
#include "probe/guards.h"

#include "base/array.h"

#include <emmintrin.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/constants.h"
#include "probe/site.h"

enum { PARTS_MAX = 8, PAGE = 4096, RT_SIGRETURN = 15 };

/* X(number, word): calls that change or use dispositions, masks, or pending signals, and those that make or end what
 * has them. */
#define NUMBERS(X, word)                                                                                               \
    X(13, word)  /* rt_sigaction */                                                                                    \
    X(14, word)  /* rt_sigprocmask */                                                                                  \
    X(15, word)  /* rt_sigreturn, but see is_restorer */                                                               \
    X(56, word)  /* clone */                                                                                           \
    X(57, word)  /* fork */                                                                                            \
    X(58, word)  /* vfork */                                                                                           \
    X(59, word)  /* execve */                                                                                          \
    X(127, word) /* rt_sigpending */                                                                                   \
    X(128, word) /* rt_sigtimedwait */                                                                                 \
    X(130, word) /* rt_sigsuspend */                                                                                   \
    X(131, word) /* sigaltstack, where it is asked for */                                                              \
    X(157, word) /* prctl */                                                                                           \
    X(158, word) /* arch_prctl */                                                                                      \
    X(270, word) /* pselect6 */                                                                                        \
    X(271, word) /* ppoll */                                                                                           \
    X(281, word) /* epoll_pwait */                                                                                     \
    X(282, word) /* signalfd */                                                                                        \
    X(289, word) /* signalfd4 */                                                                                       \
    X(317, word) /* seccomp */                                                                                         \
    X(322, word) /* execveat */                                                                                        \
    X(426, word) /* io_uring_enter */                                                                                  \
    X(435, word) /* clone3 */                                                                                          \
    X(441, word) /* epoll_pwait2 */

#define BIT(number, word) | ((number) / 64 == (word) ? 1ull << (number) % 64 : 0)
#define WORD(word) [word] = 0 NUMBERS(BIT, word)
const uint64_t tl_guarded_numbers[TL_GUARDED_END / 64] = {WORD(0), WORD(1), WORD(2), WORD(3),
                                                          WORD(4), WORD(5), WORD(6)};

/* One stretch of code, read as a whole, and those that belong to it. */
struct stretch {
    const struct tl_function *function; /* NULL: between functions */
    struct tl_range ranges[PARTS_MAX];
    struct tl_sweep sweeps[PARTS_MAX];
    size_t count;
    bool followed; /* its system calls are known: */
    struct tl_system_call *calls;
    size_t call_count;
};

struct finding {
    const struct tl_module *module;
    int (*read)(void *host, uint64_t addr, void *bytes, size_t size);
    void *host;
    struct tl_guards *guards;
    struct stretch stretch; /* the one read last */
    const struct tl_function *functions;
    size_t function_count;
};

static void stretch_free(struct stretch *stretch)
{
    for (size_t i = 0; i < stretch->count; i++)
        tl_sweep_free(&stretch->sweeps[i]);
    free(stretch->calls);
    memset(stretch, 0, sizeof *stretch);
}

static int add_range(const struct finding *finding, struct stretch *stretch, uint64_t addr, uint64_t size)
{
    size_t available;
    const uint8_t *bytes = tl_object_text(finding->module->object, addr, &available);
    if (!bytes || !size || stretch->count == PARTS_MAX)
        return 0;
    struct tl_range *range = &stretch->ranges[stretch->count];
    *range = (struct tl_range){addr, size < available ? size : available, bytes};
    const uint64_t entry = tl_object_entry(finding->module->object);
    int error = tl_sweep_range(range, &entry, 1, &stretch->sweeps[stretch->count]);
    stretch->count += !error;
    return error;
}

/* The first function that begins above addr. */
static size_t function_above(const struct finding *finding, uint64_t addr)
{
    return tl_array_upto(finding->functions, finding->function_count, sizeof *finding->functions,
                         offsetof(struct tl_function, addr), addr);
}

/* What lies between the functions around addr, within the segment that begins at `start`. */
static int read_gap(const struct finding *finding, struct stretch *stretch, uint64_t addr, uint64_t start)
{
    size_t above = function_above(finding, addr), available = 0;
    uint64_t from = start;
    for (size_t i = above; i-- > 0 && above - i < 16;) {
        uint64_t end = finding->functions[i].addr + finding->functions[i].size;
        if (end <= addr && end > from)
            from = end;
    }
    if (!tl_object_text(finding->module->object, from, &available))
        return 0;
    uint64_t size = available;
    if (above < finding->function_count && finding->functions[above].addr - from < size)
        size = finding->functions[above].addr - from;
    return add_range(finding, stretch, from, size);
}

static int read_stretch(struct finding *finding, uint64_t addr, uint64_t start)
{
    struct stretch *stretch = &finding->stretch;
    for (size_t i = 0; i < stretch->count; i++)
        if (addr - stretch->ranges[i].addr < stretch->ranges[i].size)
            return 0;
    stretch_free(stretch);
    stretch->function = tl_object_function_at(finding->module->object, addr);
    int error = 0;
    if (!stretch->function) {
        error = read_gap(finding, stretch, addr, start);
    } else {
        struct tl_part parts[PARTS_MAX];
        size_t count = tl_object_parts(finding->module->object, stretch->function, parts, PARTS_MAX);
        for (size_t i = 0; i < count && !error; i++)
            error = add_range(finding, stretch, parts[i].addr, parts[i].size);
    }
    return error;
}

static int follow_numbers(struct stretch *stretch)
{
    if (stretch->followed)
        return 0;
    stretch->followed = true;
    return tl_system_calls(stretch->ranges, stretch->sweeps, stretch->count, &stretch->calls, &stretch->call_count);
}

static size_t live_text(void *context, uint64_t addr, uint8_t *bytes, size_t size)
{
    const struct finding *finding = context;
    size_t to_page_end = PAGE - addr % PAGE;
    if (!finding->read(finding->host, addr, bytes, size))
        return size;
    return to_page_end < size && !finding->read(finding->host, addr, bytes, to_page_end) ? to_page_end : 0;
}

static void refuse(struct tl_guards *guards, uint64_t addr, enum tl_why why)
{
    if (guards->refused != TL_WHY_NONE)
        return;
    guards->refused = (uint8_t)why;
    guards->refused_addr = addr;
}

/* An instruction in front of a system call that has room for a jump, and leads to it in a straight line. Returns how
 * far in front; 0: there is none. */
static unsigned find_lead(const struct finding *finding, const struct tl_system_call *call)
{
    enum { JUMP_BYTES = 5, DISTANCE_MAX = 24 };
    const struct stretch *stretch = &finding->stretch;
    unsigned lead = 0;
    for (size_t i = 0; i < stretch->count; i++) {
        const struct tl_range *range = &stretch->ranges[i];
        if (call->entered - range->addr >= range->size)
            continue;
        uint64_t at = call->entered;
        while (at && at < call->addr) {
            struct tl_insn insn;
            uint64_t offset = at - range->addr;
            if (tl_insn_decode(range->bytes + offset, range->size - offset, at, &insn))
                return 0;
            bool divided = (at + JUMP_BYTES - 1 + finding->module->bias) / PAGE != (at + finding->module->bias) / PAGE;
            if (insn.flow != TL_FLOW_NEXT || insn.why != TL_WHY_NONE || insn.is_syscall)
                lead = 0;
            else if (insn.length >= JUMP_BYTES && !divided && call->addr - at <= DISTANCE_MAX)
                lead = (unsigned)(call->addr - at);
            at = tl_sweep_next(&stretch->sweeps[i], at + insn.length);
        }
    }
    return lead;
}

static struct tl_site *append(struct tl_site **sites, size_t count, size_t *room)
{
    struct tl_site *grown = tl_array_grown(*sites, count, room, sizeof *grown);
    if (!grown)
        return NULL;
    *sites = grown;
    memset(*sites + count, 0, sizeof **sites);
    return *sites + count;
}

/* The site of a guard, `lead` bytes in front of its system call. */
static enum tl_why make_site(struct finding *finding, const struct tl_system_call *call, enum tl_site_guard guard,
                             unsigned lead, struct tl_site *site)
{
    site->addr = call->addr - lead + finding->module->bias;
    site->guard = (uint8_t)guard;
    site->guard_at = (uint8_t)lead;
    return tl_site_inspect(finding->module, finding->stretch.function, live_text, finding, site);
}

static int add_site(struct finding *finding, const struct tl_system_call *call, enum tl_site_guard guard)
{
    struct tl_guards *guards = finding->guards;
    bool movable = tl_object_is_pie(finding->module->object);
    unsigned lead = find_lead(finding, call);
    struct tl_site *site = append(&guards->sites, guards->count, &guards->room);
    if (!site)
        return -ENOMEM;
    enum tl_why why = make_site(finding, call, guard, movable ? 0 : lead, site);
    if (why != TL_WHY_NONE) {
        if (guard != TL_GUARD_RETURN)
            refuse(guards, site->addr, why);
        return 0;
    }
    guards->count++;
    if (!movable || !lead)
        return 0;
    site = append(&guards->leads, guards->lead_count, &guards->lead_room);
    if (!site)
        return -ENOMEM;
    guards->lead_count += make_site(finding, call, guard, lead, site) == TL_WHY_NONE;
    return 0;
}

static bool is_wanted(const struct tl_guards *guards, uint32_t number)
{
    enum { SIGALTSTACK = 131 };
    if (number == SIGALTSTACK && !guards->stacks)
        return false;
    return number < TL_GUARDED_END && tl_guarded_numbers[number / 64] >> number % 64 & 1;
}

/* A system call of the stretch, by the address of its bytes 0f 05. */
static int find_call(struct finding *finding, uint64_t addr, struct tl_system_call *call, bool *found)
{
    struct stretch *stretch = &finding->stretch;
    if (!tl_is_system_call(stretch->ranges, stretch->sweeps, stretch->count, addr))
        return 0;
    *found = tl_straight_system_call(stretch->ranges, stretch->sweeps, stretch->count, addr, call);
    if (*found && is_wanted(finding->guards, call->number))
        tl_straight_beginning(stretch->ranges, stretch->sweeps, stretch->count, call);
    int error = *found ? 0 : follow_numbers(stretch);
    for (size_t i = 0; i < stretch->call_count && !*found && !error; i++) {
        *call = stretch->calls[i];
        *found = call->addr + call->prefixes == addr;
    }
    return error;
}

/* The signal restorer of a C library, its system call at `addr`: handlers return to it. Unwinders know the frame behind
 * it by the file's unwind tables, or else by these bytes, which have to stay then. */
static bool is_restorer(const struct finding *finding, uint64_t addr)
{
    size_t available;
    const uint8_t *bytes = tl_object_text(finding->module->object, addr - TL_RESTORER_CALL, &available);
    return bytes && tl_is_signal_restorer(bytes, available);
}

static int look_at_restorer(struct finding *finding, uint64_t addr)
{
    const struct tl_system_call call = {
        .addr = addr, .number = RT_SIGRETURN, .known = true, .entered = addr - TL_RESTORER_CALL};
    finding->guards->seen++;
    if (!tl_object_is_signal_frame(finding->module->object, call.entered))
        return 0;
    return add_site(finding, &call, TL_GUARD_RETURN);
}

/* The bytes of a system call, at `addr` of the file, in the segment that begins at `start`. */
static int look_at(struct finding *finding, uint64_t addr, uint64_t start)
{
    struct tl_system_call call;
    bool found = false;
    int error = read_stretch(finding, addr, start);
    if (!error && is_restorer(finding, addr))
        return look_at_restorer(finding, addr);
    if (!error)
        error = find_call(finding, addr, &call, &found);
    if (error || !found)
        return error;
    finding->guards->seen++;
    if (!call.known)
        return add_site(finding, &call, TL_GUARD_ASK);
    if (!is_wanted(finding->guards, call.number))
        return 0;
    return add_site(finding, &call, call.number == RT_SIGRETURN ? TL_GUARD_RETURN : TL_GUARD_KNOWN);
}

/* The first bytes 0f 05 of a segment at or behind `at`, or `size`. Found sixteen at a time: libc has two million. */
static size_t find_system_call(const uint8_t *bytes, size_t size, size_t at)
{
    const __m128i first = _mm_set1_epi8(0x0f), second = _mm_set1_epi8(0x05);
    for (; size > sizeof first && at < size - sizeof first; at += sizeof first) {
        __m128i here = _mm_loadu_si128((const __m128i *)(const void *)(bytes + at));
        __m128i next = _mm_loadu_si128((const __m128i *)(const void *)(bytes + at + 1));
        int found = _mm_movemask_epi8(_mm_and_si128(_mm_cmpeq_epi8(here, first), _mm_cmpeq_epi8(next, second)));
        if (found)
            return at + (unsigned)__builtin_ctz((unsigned)found);
    }
    for (; at + 1 < size; at++)
        if (bytes[at] == 0x0f && bytes[at + 1] == 0x05)
            return at;
    return size;
}

static int search(struct finding *finding, uint64_t start, const uint8_t *bytes, size_t size)
{
    int error = 0;
    for (size_t at = 0; !error && (at = find_system_call(bytes, size, at)) < size; at++)
        error = look_at(finding, start + at, start);
    return error;
}

/* The first address of the page that lies in an executable segment, whose bytes are to be had from there on. */
static const uint8_t *segment_in(const struct tl_object *object, uint64_t page, uint64_t *start, size_t *available)
{
    const uint8_t *bytes = tl_object_text(object, page, available);
    *start = page;
    if (bytes || !tl_object_text(object, page + PAGE - 1, available))
        return bytes;
    while (!(bytes = tl_object_text(object, *start, available)))
        ++*start;
    return bytes;
}

int tl_guards_of_module(const struct tl_module *module,
                        int (*read)(void *host, uint64_t addr, void *bytes, size_t size), void *host,
                        struct tl_guards *guards)
{
    struct finding finding = {.module = module, .read = read, .host = host, .guards = guards};
    if (module->is_vdso)
        return 0;
    if (!module->object) {
        refuse(guards, module->start, TL_WHY_NOT_CODE);
        return 0;
    }
    finding.functions = tl_object_functions(module->object, &finding.function_count);
    int error = 0;
    uint64_t end = module->end - module->bias;
    for (uint64_t page = (module->start - module->bias) & ~(uint64_t)(PAGE - 1); page < end && !error;) {
        uint64_t start;
        size_t available;
        const uint8_t *bytes = segment_in(module->object, page, &start, &available);
        if (bytes)
            error = search(&finding, start, bytes, available);
        page = bytes ? (start + available + PAGE - 1) & ~(uint64_t)(PAGE - 1) : page + PAGE;
    }
    stretch_free(&finding.stretch);
    return error;
}

int tl_guards_find(const struct tl_modules *modules, int (*read)(void *host, uint64_t addr, void *bytes, size_t size),
                   void *host, struct tl_guards *guards)
{
    int error = 0;
    for (size_t i = 0; i < modules->count && !error; i++)
        error = tl_guards_of_module(&modules->modules[i], read, host, guards);
    return error;
}

void tl_guards_free(struct tl_guards *guards)
{
    free(guards->sites);
    free(guards->leads);
    memset(guards, 0, sizeof *guards);
}

enum tl_why tl_guards_missing(const struct tl_site *sites, size_t count, uint64_t *addr)
{
    for (size_t i = 0; i < count; i++)
        if (sites[i].guard && sites[i].guard != TL_GUARD_RETURN && sites[i].why != TL_WHY_NONE) {
            *addr = sites[i].addr;
            return (enum tl_why)sites[i].why;
        }
    return TL_WHY_NONE;
}

static const struct tl_site *lead_to(const struct tl_guards *guards, uint64_t addr)
{
    for (size_t i = 0; i < guards->lead_count; i++)
        if (guards->leads[i].addr + guards->leads[i].guard_at == addr)
            return &guards->leads[i];
    return NULL;
}

bool tl_guards_retreat(struct tl_guards *guards, const struct tl_site *sites, size_t count)
{
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        const uint64_t addr = sites[i].addr;
        bool missing = sites[i].guard && sites[i].why != TL_WHY_NONE && !sites[i].guard_at;
        const struct tl_site *lead = missing ? lead_to(guards, addr) : NULL;
        for (size_t k = 0; lead && k < guards->count; k++)
            if (guards->sites[k].addr == addr) {
                guards->sites[k] = *lead;
                any = true;
                break;
            }
    }
    return any;
}

static int by_address(const void *left, const void *right)
{
    const struct tl_site *const *a = left, *const *b = right;
    return (*a)->addr < (*b)->addr ? -1 : (*a)->addr > (*b)->addr;
}

/* Pointers to the sites, by address. */
static struct tl_site **ordered(struct tl_site *sites, size_t count)
{
    struct tl_site **pointers = calloc(count + 1, sizeof(struct tl_site *));
    for (size_t i = 0; pointers && i < count; i++)
        pointers[i] = &sites[i];
    if (pointers && count)
        qsort(pointers, count, sizeof(struct tl_site *), by_address);
    return pointers;
}

int tl_guards_merge(const struct tl_guards *guards, struct tl_site **sites, size_t *count)
{
    size_t own = *count;
    struct tl_site *merged = realloc(*sites, (own + guards->count + 1) * sizeof *merged);
    if (!merged)
        return -ENOMEM;
    *sites = merged;
    struct tl_site **pointers = ordered(merged, own);
    if (!pointers)
        return -ENOMEM;
    for (size_t i = 0; i < guards->count; i++) {
        const struct tl_site *guard = &guards->sites[i];
        struct tl_site **same = own ? bsearch(&guard, pointers, own, sizeof(struct tl_site *), by_address) : NULL;
        if (same) {
            (*same)->guard = guard->guard;
            (*same)->guard_at = guard->guard_at;
        } else {
            merged[(*count)++] = *guard;
        }
    }
    free(pointers);
    return 0;
}
