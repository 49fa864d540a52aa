/* SPDX-License-Identifier: MIT
 *
 * The tables grow in place in one buffer each and are laid out once all sizes are known. Programs are shared: a glob
 * over two thousand functions with the same arguments has one program, not two thousand. A program differs by where it
 * runs (at an entry, at a ret, at a tail exit where the return value is unknown) and by the module that its @SYMBOLs
 * are looked up in.
 */
#include "probe/assemble.h"

#include "hit/watch.h"

#include <stdlib.h>
#include <string.h>

enum { SHARED_LANES_A_CPU = 2, SHARED_LANES_MIN = 16, THREAD_LANES_SHIFT = 6, LINE = 64, PAGE = 4096 };
/* Room for the count blocks of 64 to 1,024 threads, in at most this much address space (pages are used only when
 * touched). */
enum { TABLE_SHIFT_MIN = 6, TABLE_SHIFT_MAX = 10 };
static const uint64_t table_bytes_max = 64ull << 20;

struct growing {
    void *items;
    size_t used, room;
};

/* Room for `more` further items of `size` bytes; a pointer to the first, or NULL. */
static void *grow(struct growing *growing, size_t more, size_t size)
{
    if (growing->used + more > growing->room) {
        size_t room = growing->room ? growing->room : 64;
        while (room < growing->used + more)
            room *= 2;
        void *items = realloc(growing->items, room * size);
        if (!items)
            return NULL;
        growing->items = items;
        growing->room = room;
    }
    void *first = (uint8_t *)growing->items + growing->used * size;
    growing->used += more;
    return first;
}

/* A program that stands in the tables already. */
struct compiled {
    const struct tl_spec *spec;
    const struct tl_module *module;
    bool is_return, retval_known, at_entry;
    uint32_t first, length;
};

struct assembling {
    struct tl_selection *selection;
    const struct tl_modules *modules;
    const struct tl_assemble_options *options;
    struct growing sites, actions, operations, strings, compiled;
    const struct tl_module *module; /* of the probe being compiled, for the callbacks */
    const struct tl_spec **failed;
    struct tl_error *error;
};

static int variable(void *context, const char *name, uint64_t *addr)
{
    const struct assembling *assembling = context;
    uint64_t size;
    if (!tl_object_variable(assembling->module->object, name, addr, &size)) {
        *addr += assembling->module->bias;
        return 0;
    }
    for (size_t i = 0; i < assembling->modules->count; i++) {
        const struct tl_module *module = &assembling->modules->modules[i];
        if (module->object && !tl_object_variable(module->object, name, addr, &size)) {
            *addr += module->bias;
            return 0;
        }
    }
    return -ENOENT;
}

static int file_offset(void *context, uint64_t offset, uint64_t *addr)
{
    const struct assembling *assembling = context;
    int error = tl_object_offset_to_addr(assembling->module->object, offset, false, addr);
    if (!error)
        *addr += assembling->module->bias;
    return error;
}

static int out_of_memory(const struct assembling *assembling)
{
    return tl_fail(assembling->error, -ENOMEM, "out of memory");
}

static struct tl_operation *operation(struct assembling *assembling, enum tl_op op, uint8_t a, uint16_t b, int64_t imm)
{
    struct tl_operation *made = grow(&assembling->operations, 1, sizeof *made);
    if (made)
        *made = (struct tl_operation){.op = (uint8_t)op, .a = a, .b = b, .imm = imm};
    return made;
}

/* Append the spec's own program; constants go to the common string pool. */
static int append_spec(struct assembling *assembling, const struct tl_probe *probe, bool retval_known)
{
    struct tl_compile_target target = {.is_return = probe->is_return,
                                       .retval_known = retval_known,
                                       .at_entry = probe->at_entry,
                                       .filter_only = assembling->options->count,
                                       .variable = variable,
                                       .file_offset = file_offset,
                                       .context = assembling};
    struct tl_operation *code = NULL;
    char *strings = NULL;
    size_t length = 0, strings_size = 0;
    assembling->module = probe->module;
    int error = tl_spec_compile(probe->spec, &target, &code, &length, &strings, &strings_size, assembling->error);
    if (error) {
        *assembling->failed = probe->spec;
        return error;
    }
    size_t pool = assembling->strings.used;
    struct tl_operation *to = grow(&assembling->operations, length, sizeof *to);
    char *text = strings_size ? grow(&assembling->strings, strings_size, 1) : NULL;
    if (!to || (strings_size && !text)) {
        error = out_of_memory(assembling);
    } else {
        memcpy(to, code, length * sizeof *code);
        for (size_t i = 0; i < length; i++)
            if (to[i].op == TL_OP_STREQ || to[i].op == TL_OP_GLOB)
                to[i].imm += (int64_t)pool;
        if (strings_size)
            memcpy(text, strings, strings_size);
    }
    free(code);
    free(strings);
    return error;
}

/* In front of the program of an indirect exit: compute where the jump goes, and reject the hit when that is inside the
 * function. */
static int append_leaves_test(struct assembling *assembling, const struct tl_probe *probe, const struct tl_site *site)
{
    struct tl_insn insn;
    struct tl_operand target;
    bool ok =
        !tl_insn_decode(site->text, site->text_length, site->addr, &insn) && !tl_insn_indirect_target(&insn, &target);
    if (!ok)
        return tl_fail(assembling->error, -ENOTSUP, "%s: the target of an indirect jump cannot be told", probe->name);
    if (target.base != TL_NO_REG)
        ok = operation(assembling, TL_OP_REG, target.base, 0, 0);
    else
        ok = operation(assembling, TL_OP_IMM, 0, 0, target.memory ? target.displacement : 0);
    if (target.memory) {
        if (target.base != TL_NO_REG && target.displacement)
            ok = ok && operation(assembling, TL_OP_IMM, 0, 0, target.displacement) &&
                 operation(assembling, TL_OP_ADD, 0, 0, 0);
        if (target.index != TL_NO_REG)
            ok = ok && operation(assembling, TL_OP_REG, target.index, 0, 0) &&
                 operation(assembling, TL_OP_IMM, 0, 0, target.scale) && operation(assembling, TL_OP_MUL, 0, 0, 0) &&
                 operation(assembling, TL_OP_ADD, 0, 0, 0);
        ok = ok && operation(assembling, TL_OP_LOAD_DIRECT, 8, 0, 0);
    }
    for (unsigned i = 0; ok && i < probe->part_count; i++)
        ok = operation(assembling, TL_OP_DUP, 0, 0, 0) &&
             operation(assembling, TL_OP_IMM, 0, 0, (int64_t)probe->parts[i].addr) &&
             operation(assembling, TL_OP_SUB, 0, 0, 0) &&
             operation(assembling, TL_OP_IMM, 0, 0, (int64_t)probe->parts[i].size) &&
             operation(assembling, TL_OP_ULT, 0, 0, 0) && operation(assembling, TL_OP_JZ, 0, 0, 1) &&
             operation(assembling, TL_OP_REJECT, 0, 0, 0);
    ok = ok && operation(assembling, TL_OP_DROP, 0, 0, 0);
    return ok ? 0 : out_of_memory(assembling);
}

static int program_for(struct assembling *assembling, const struct tl_place *place, const struct tl_site *site,
                       uint32_t *first, uint32_t *length)
{
    const struct tl_probe *probe = &assembling->selection->probes[place->probe];
    bool retval_known = place->exit == TL_EXIT_RET + 1;
    bool indirect = place->exit == TL_EXIT_INDIRECT + 1;
    struct compiled *known = assembling->compiled.items;
    for (size_t i = assembling->compiled.used; i-- && !indirect;)
        if (known[i].spec == probe->spec && known[i].module == probe->module &&
            known[i].is_return == probe->is_return && known[i].retval_known == retval_known &&
            known[i].at_entry == probe->at_entry) {
            *first = known[i].first;
            *length = known[i].length;
            return 0;
        }
    *first = (uint32_t)assembling->operations.used;
    int error = indirect ? append_leaves_test(assembling, probe, site) : 0;
    if (!error)
        error = append_spec(assembling, probe, retval_known);
    if (error)
        return error;
    *length = (uint32_t)(assembling->operations.used - *first);
    struct tl_program program = {.code = (const struct tl_operation *)assembling->operations.items + *first,
                                 .length = *length,
                                 .strings = assembling->strings.items,
                                 .strings_size = assembling->strings.used};
    if (tl_program_verify(&program))
        return tl_fail(assembling->error, -E2BIG, "%s: what is to be fetched and compared makes too long a program",
                       probe->name);
    if (!indirect) {
        struct compiled *entry = grow(&assembling->compiled, 1, sizeof *entry);
        if (!entry)
            return out_of_memory(assembling);
        *entry = (struct compiled){probe->spec,     probe->module, probe->is_return, retval_known,
                                   probe->at_entry, *first,        *length};
    }
    return 0;
}

/* Everything that happens at one site: its places are `places` (`count` of them). */
static int assemble_site(struct assembling *assembling, uint32_t index, const struct tl_place *places, size_t count)
{
    struct tl_site *site = &assembling->selection->sites[index];
    const struct tl_probe *probes = assembling->selection->probes;
    struct tl_hit_site *row = grow(&assembling->sites, 1, sizeof *row);
    if (!row)
        return out_of_memory(assembling);
    *row = (struct tl_hit_site){
        .addr = site->addr, .first_action = (uint32_t)assembling->actions.used, .action_count = (uint32_t)count};
    bool in_line = assembling->options->count && count == 1 && !probes[places[0].probe].spec->filter &&
                   places[0].exit != TL_EXIT_INDIRECT + 1;
    site->hook.kind = in_line ? TL_HOOK_COUNT : TL_HOOK_ENTER;
    site->hook.index = in_line ? places[0].probe : index;
    for (size_t i = 0; i < count; i++) {
        uint32_t first = 0, length = 0;
        /* Counted in line: the tables are not looked at on a hit, so nothing needs compiling beyond the check that it
         * could be. */
        int error = program_for(assembling, &places[i], site, &first, &length);
        if (error)
            return error;
        struct tl_hit_action *action = grow(&assembling->actions, 1, sizeof *action);
        if (!action)
            return out_of_memory(assembling);
        *action =
            (struct tl_hit_action){.probe = places[i].probe,
                                   .kind = assembling->options->count ? TL_ACTION_COUNT : TL_ACTION_EVENT,
                                   .stack_bytes = assembling->options->count ? 0 : assembling->options->stack_bytes,
                                   .first_operation = first,
                                   .operations = length};
    }
    return 0;
}

static uint64_t round_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) & ~(to - 1);
}

static int lay_out(struct assembling *assembling, struct tl_assembly *assembly)
{
    const struct tl_assemble_options *options = assembling->options;
    uint32_t probes = (uint32_t)assembling->selection->probe_count;
    struct tl_hit_control control = {
        .magic = TL_HIT_MAGIC, .flags = options->flags, .pid = options->pid, .tid_offset = options->tid_offset};
    control.site_count = (uint32_t)assembling->sites.used;
    control.action_count = (uint32_t)assembling->actions.used;
    control.operation_count = (uint32_t)assembling->operations.used;
    control.strings_size = (uint32_t)assembling->strings.used;
    control.probe_count = probes;

    unsigned block_shift = 7;
    while ((1ull << block_shift) < TL_COUNT_BLOCK_HEAD + 8ull * probes)
        block_shift++;
    unsigned table_shift = TABLE_SHIFT_MAX;
    while (table_shift > TABLE_SHIFT_MIN && (1ull << (block_shift + table_shift)) > table_bytes_max)
        table_shift--;
    control.block_shift = block_shift;
    control.table_shift = table_shift;

    uint32_t shared =
        options->cpus * SHARED_LANES_A_CPU < SHARED_LANES_MIN ? SHARED_LANES_MIN : options->cpus * SHARED_LANES_A_CPU;
    control.lane_shift = THREAD_LANES_SHIFT;
    control.lane_count = (1u << THREAD_LANES_SHIFT) + shared;
    if (control.lane_count > TL_LANES_MAX)
        control.lane_count = TL_LANES_MAX;
    control.lane_bytes = options->ring_bytes;
    control.lane_stride = round_up(sizeof(struct tl_lane) + round_up(8ull * probes, LINE) + options->ring_bytes, PAGE);

    uint64_t at = round_up(sizeof control, LINE);
    control.sites = at;
    at = round_up(at + control.site_count * sizeof(struct tl_hit_site), LINE);
    control.actions = at;
    at = round_up(at + control.action_count * sizeof(struct tl_hit_action), LINE);
    control.operations = at;
    at = round_up(at + control.operation_count * sizeof(struct tl_operation), LINE);
    control.strings = at;
    at = round_up(at + control.strings_size, LINE);
    control.missed = at;
    at = round_up(at + 8ull * probes, PAGE);
    control.blocks = at;
    at += ((1ull << table_shift) + 1) << block_shift;
    control.lanes = round_up(at, PAGE);
    control.area_size = control.lanes + control.lane_count * control.lane_stride;

    assembly->image_size = control.blocks;
    assembly->image = calloc(1, assembly->image_size);
    if (!assembly->image)
        return out_of_memory(assembling);
    memcpy(assembly->image, &control, sizeof control);
    assembly->layout = (struct tl_hit_control *)assembly->image;
    const struct {
        uint64_t at;
        const struct growing *from;
        size_t size;
    } tables[] = {{control.sites, &assembling->sites, sizeof(struct tl_hit_site)},
                  {control.actions, &assembling->actions, sizeof(struct tl_hit_action)},
                  {control.operations, &assembling->operations, sizeof(struct tl_operation)},
                  {control.strings, &assembling->strings, 1}};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (tables[i].from->used)
            memcpy(assembly->image + tables[i].at, tables[i].from->items, tables[i].from->used * tables[i].size);

    for (size_t i = 0; i < assembling->selection->site_count; i++) {
        struct tl_hook *hook = &assembling->selection->sites[i].hook;
        hook->block_shift = (uint8_t)block_shift;
        hook->table_shift = (uint8_t)table_shift;
        hook->has_fsgsbase = (options->flags & TL_HIT_FSGSBASE) != 0;
        hook->has_rdpid = (options->flags & TL_HIT_RDPID) != 0;
        hook->fs_self = options->fs_self;
    }
    return 0;
}

static void forget(struct assembling *assembling)
{
    free(assembling->sites.items);
    free(assembling->actions.items);
    free(assembling->operations.items);
    free(assembling->strings.items);
    free(assembling->compiled.items);
}

int tl_assemble(struct tl_selection *selection, const struct tl_modules *modules,
                const struct tl_assemble_options *options, struct tl_assembly *assembly, const struct tl_spec **failed,
                struct tl_error *error)
{
    struct assembling assembling = {
        .selection = selection, .modules = modules, .options = options, .failed = failed, .error = error};
    memset(assembly, 0, sizeof *assembly);
    *failed = NULL;
    int result = 0;
    for (size_t i = 0, next; i < selection->place_count && !result; i = next) {
        const struct tl_place *places = selection->places;
        /* Places of a site stand together; refused ones lie between them. */
        next = i + 1;
        if (places[i].site == UINT32_MAX)
            continue;
        while (next < selection->place_count && places[next].site == places[i].site)
            next++;
        result = assemble_site(&assembling, places[i].site, &places[i], next - i);
    }
    if (!result)
        result = lay_out(&assembling, assembly);
    forget(&assembling);
    return result;
}

static int assemble_watch(struct assembling *assembling, const struct tl_assemble_watch *watch)
{
    uint32_t first = (uint32_t)assembling->operations.used, pool = (uint32_t)assembling->strings.used;
    struct tl_hit_site *site = grow(&assembling->sites, 1, sizeof *site);
    struct tl_hit_action *action = grow(&assembling->actions, 1, sizeof *action);
    struct tl_operation *code = grow(&assembling->operations, watch->length, sizeof *code);
    char *strings = watch->strings_size ? grow(&assembling->strings, watch->strings_size, 1) : NULL;
    if (!site || !action || !code || (watch->strings_size && !strings))
        return out_of_memory(assembling);
    *site = (struct tl_hit_site){
        .addr = watch->addr, .first_action = (uint32_t)assembling->actions.used - 1, .action_count = 1};
    *action = (struct tl_hit_action){.probe = watch->probe,
                                     .kind = TL_ACTION_EVENT,
                                     .stack_bytes = assembling->options->stack_bytes,
                                     .first_operation = first,
                                     .operations = (uint32_t)watch->length};
    memcpy(code, watch->code, watch->length * sizeof *code);
    if (strings)
        memcpy(strings, watch->strings, watch->strings_size);
    for (size_t i = 0; i < watch->length; i++)
        if (code[i].op == TL_OP_STREQ || code[i].op == TL_OP_GLOB)
            code[i].imm += pool;
    return 0;
}

int tl_assemble_watches(const struct tl_assemble_watch *watches, uint32_t count, uint32_t probe_count,
                        const struct tl_assemble_options *options, struct tl_assembly *assembly, struct tl_error *error)
{
    struct tl_selection nothing = {.probe_count = probe_count};
    struct assembling assembling = {.selection = &nothing, .options = options, .error = error};
    int result = 0;
    memset(assembly, 0, sizeof *assembly);
    for (uint32_t i = 0; i < count && !result; i++) {
        const struct tl_program program = {watches[i].code, watches[i].length, watches[i].strings,
                                           watches[i].strings_size};
        result = tl_program_verify(&program) ? tl_fail(error, -EINVAL, "the program of a watch is not sound")
                                             : assemble_watch(&assembling, &watches[i]);
    }
    if (!result)
        result = lay_out(&assembling, assembly);
    if (!result) {
        assembly->layout->watches = round_up(assembly->layout->area_size, PAGE);
        assembly->layout->area_size = assembly->layout->watches + sizeof(struct tl_watch_table);
    }
    forget(&assembling);
    return result;
}

void tl_assembly_free(struct tl_assembly *assembly)
{
    free(assembly->image);
    memset(assembly, 0, sizeof *assembly);
}
