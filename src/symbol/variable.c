/* SPDX-License-Identifier: MIT
 *
 * Variables by name.
 *
 * In each module that may be meant, everything of the last component's name is collected from debug information and
 * from the symbol tables, by address: a table knows all that the linker kept, and its size, debug information knows
 * types, full names and source files, and what has no address and why. Of all that fit, only those that fit best count:
 * what has exactly the name, then what has it inside a namespace, class or function, then what the compiler has
 * numbered. More than one of these is an error that lists them in words that name one each.
 */
#include "symbol/variable.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "symbol/type_read.h"
#include "symbol/variables.h"

void candidates_add(struct candidates *candidates, const struct candidate *candidate)
{
    struct candidate *grown =
        candidate->name ? tl_array_grown(candidates->list, candidates->count, &candidates->room, sizeof *grown) : NULL;
    if (!grown) {
        candidates->no_memory = true;
        free(candidate->name);
        free(candidate->file);
        return;
    }
    candidates->list = grown;
    candidates->list[candidates->count++] = *candidate;
}

void candidates_free(struct candidates *candidates)
{
    for (size_t i = 0; i < candidates->count; i++) {
        free(candidates->list[i].name);
        free(candidates->list[i].file);
    }
    free(candidates->list);
    *candidates = (struct candidates){0};
}

/* The symbol of something that is known already. Debug information calls a method's variable run::calls, and only the
 * symbol tells whose method it is. */
static void merge(struct candidate *known, const struct symbol *symbol, unsigned rank, const char *plain)
{
    known->size = symbol->size > known->size ? symbol->size : known->size;
    known->global |= symbol->global;
    known->rank = rank < known->rank ? (uint8_t)rank : known->rank;
    char *name = plain && strlen(plain) > strlen(known->name) ? shown_name(plain) : NULL;
    if (!name)
        return;
    free(known->name);
    known->name = name;
}

static void add_symbol(void *context, const struct symbol *symbol)
{
    struct search *search = context;
    char raw[512], plain[512];
    bool is_function = symbol->type == STT_FUNC || symbol->type == STT_GNU_IFUNC;
    bool is_variable = symbol->type == STT_OBJECT || symbol->type == STT_TLS || symbol->type == STT_COMMON;
    /* Also a mangled name has the last component in it: most symbols go here. */
    if (!memmem(symbol->name, symbol->length, search->base, strlen(search->base)))
        return;
    if (symbol->length >= sizeof raw || (symbol->type == STT_NOTYPE && !symbol->global) ||
        !(is_function || is_variable || symbol->type == STT_NOTYPE))
        return;
    memcpy(raw, symbol->name, symbol->length);
    raw[symbol->length] = '\0';
    const char *name = name_demangle(raw, plain, sizeof plain) && strcmp(raw, search->wanted) ? plain : raw;
    unsigned rank = name_fits(name, search->wanted);
    if (rank == RANK_NONE || (is_function && rank != RANK_EXACT))
        return;
    enum finding finding = is_function ? FOUND_FUNCTION : symbol->type == STT_TLS ? FOUND_THREAD : FOUND_MEMORY;
    for (size_t i = search->first; i < search->found.count; i++) {
        struct candidate *known = &search->found.list[i];
        if (known->finding == finding && known->addr == symbol->addr) {
            merge(known, symbol, rank, name == plain ? plain : NULL);
            return;
        }
    }
    struct candidate candidate = {.finding = (uint8_t)finding,
                                  .rank = (uint8_t)rank,
                                  .global = symbol->global,
                                  .addr = symbol->addr,
                                  .size = symbol->size,
                                  .module = search->module,
                                  .name = shown_name(name),
                                  .file = symbol->file ? shown_name(symbol->file) : NULL};
    candidates_add(&search->found, &candidate);
}

static void forget(struct candidate *candidate)
{
    free(candidate->name);
    free(candidate->file);
}

/* Ranks what debug information had, and drops what is there already. */
static void settle(struct search *search)
{
    struct candidates *found = &search->found;
    size_t kept = search->first;
    for (size_t i = search->first; i < found->count; i++) {
        struct candidate *candidate = &found->list[i];
        candidate->rank = (uint8_t)name_fits(candidate->name, search->wanted);
        candidate->module = search->module;
        bool drop = false;
        for (size_t j = search->first; !drop && j < kept; j++)
            drop = found->list[j].finding == candidate->finding && found->list[j].addr == candidate->addr &&
                   has_place(candidate);
        if (drop)
            forget(candidate);
        else
            found->list[kept++] = *candidate;
    }
    found->count = kept;
}

/* Drops what has another name, now that all is known. */
static void drop_others(struct search *search)
{
    struct candidates *found = &search->found;
    size_t kept = search->first;
    for (size_t i = search->first; i < found->count; i++) {
        if (found->list[i].rank == RANK_NONE)
            forget(&found->list[i]);
        else
            found->list[kept++] = found->list[i];
    }
    found->count = kept;
}

/* Whether looking further, into functions, would find nothing better. */
static bool has_all(const struct search *search)
{
    for (size_t i = search->first; i < search->found.count; i++) {
        const struct candidate *candidate = &search->found.list[i];
        if (has_place(candidate) && candidate->rank == RANK_EXACT && candidate->has_type)
            return true;
    }
    return false;
}

/* All that one module has of the name. */
static void search_module(struct search *search, const struct tl_module *module)
{
    search->base = name_base(search->wanted);
    search->module = module;
    search->first = search->found.count;
    for (int in_functions = 0; in_functions < 2 && !has_all(search); in_functions++) {
        while (search->found.count > search->first)
            forget(&search->found.list[--search->found.count]);
        dwarf_find_variables(module->object, search->base, in_functions, &search->found);
        settle(search);
        object_each_symbol(module->object, add_symbol, search);
        drop_others(search);
        if (!object_need_dwarf(module->object))
            break;
    }
}

/* The best of what has a place: how many there are, the first one is stored. Variables go before functions. */
static size_t best_of(const struct search *search, const struct candidate **best)
{
    size_t count = 0;
    *best = NULL;
    for (size_t i = 0; i < search->found.count; i++) {
        const struct candidate *candidate = &search->found.list[i];
        bool is_function = candidate->finding == FOUND_FUNCTION;
        if (!has_place(candidate) || (search->file && !file_fits(candidate->file, search->file)))
            continue;
        bool was_function = *best && (*best)->finding == FOUND_FUNCTION;
        int order = !*best || was_function != is_function ? (*best && is_function ? 1 : -1)
                                                          : (int)candidate->rank - (int)(*best)->rank;
        if (order < 0) {
            *best = candidate;
            count = 1;
        } else if (order == 0) {
            count++;
        }
    }
    return count;
}

bool search_includes(const struct search *search, size_t index, bool by_scope)
{
    const struct tl_module *module = &search->modules->modules[index];
    if (!module->object)
        return false;
    return !by_scope || tl_modules_find(search->modules, search->asked->scope, index) == (int)index;
}

/* Modules in which the name is looked for, until that is enough. */
static void search_modules(struct search *search, bool by_scope)
{
    for (size_t i = 0; i < search->modules->count; i++) {
        const struct candidate *best;
        if (search_includes(search, i, by_scope))
            search_module(search, &search->modules->modules[i]);
        /* The program's own goes before what the libraries have. */
        if (i == 0 && best_of(search, &best) && best->rank == RANK_EXACT && best->finding != FOUND_FUNCTION)
            return;
    }
}

/* The name with the first so many steps, all of them members: names may have dots in them, those of Go do. */
static void want(struct search *search, size_t steps)
{
    size_t used = (size_t)snprintf(search->dotted, sizeof search->dotted, "%s", search->asked->name);
    for (size_t i = 0; i < steps && used < sizeof search->dotted; i++)
        used +=
            (size_t)snprintf(search->dotted + used, sizeof search->dotted - used, ".%s", search->asked->steps[i].name);
    search->wanted = search->dotted;
    search->steps = steps;
    candidates_free(&search->found);
}

static const struct candidate *search_names(struct search *search, bool by_scope, size_t *count)
{
    const struct tl_variable_name *asked = search->asked;
    const struct candidate *best;
    for (size_t steps = 0;; steps++) {
        want(search, steps);
        search_modules(search, by_scope);
        *count = best_of(search, &best);
        if (*count && (best->finding != FOUND_FUNCTION || !asked->step_count) && (best->rank == RANK_EXACT || !steps))
            return best;
        if (steps == asked->step_count || asked->steps[steps].kind != TL_STEP_MEMBER)
            break;
    }
    if (search->steps) { /* what is said is about the plain name */
        want(search, 0);
        search_modules(search, by_scope);
        *count = best_of(search, &best);
    }
    return best;
}

static bool scope_is_module(const struct tl_modules *modules, const char *scope)
{
    return scope && tl_modules_find(modules, scope, 0) >= 0;
}

/* A library's variable that the program has a copy of. */
static void move_to_copy(const struct tl_modules *modules, struct tl_variable *variable)
{
    const struct tl_module *program = modules->count ? &modules->modules[0] : NULL;
    uint64_t copy;
    if (!program || !program->is_exe || !program->object || variable->module == program || variable->is_thread_local ||
        variable->is_function || !object_copy_of(program->object, variable->module->object, variable->file_addr, &copy))
        return;
    variable->module = program;
    variable->file_addr = copy;
}

static void take_type(struct search *search, const struct candidate *candidate, struct tl_variable *variable)
{
    Dwarf_Die die = candidate->die;
    bool has_type = candidate->has_type;
    /* The program only declares what it has a copy of; the declaration tells the type as well. */
    for (size_t i = 0; !has_type && i < search->found.count; i++) {
        const struct candidate *other = &search->found.list[i];
        has_type = other->finding == FOUND_DECLARED && other->rank == RANK_EXACT && candidate->rank == RANK_EXACT;
        if (has_type)
            die = other->die;
    }
    if (has_type && candidate->finding != FOUND_FUNCTION)
        variable->whole = type_read(&die);
    struct tl_datatype *type = variable->whole;
    if (type && type->kind == TL_DATA_ARRAY && !type->count && type->element->size && candidate->size) {
        type->count = candidate->size / type->element->size; /* "extern int a[];" */
        type->size = type->count * type->element->size;
    }
    if (type && !type->size && candidate->size && type->kind == TL_DATA_BYTES)
        type->size = candidate->size;
    variable->size = type && type->size ? type->size : candidate->size;
    variable->type = type;
}

static int fill(struct search *search, const struct candidate *candidate, struct tl_variable *variable)
{
    const struct tl_variable_name *asked = search->asked;
    variable->module = candidate->module;
    variable->file_addr = candidate->addr;
    variable->is_thread_local = candidate->finding == FOUND_THREAD;
    variable->is_function = candidate->finding == FOUND_FUNCTION;
    variable->name = strdup(asked->whole ? asked->whole : asked->name);
    if (!variable->name)
        return tl_fail(search->error, -ENOMEM, "out of memory");
    if (variable->is_function && !asked->or_function)
        return tl_fail(search->error, -ENOTSUP,
                       "%.80s is a function, not a variable: mem:%.80s:x watches its execution", asked->name,
                       asked->name);
    move_to_copy(search->modules, variable);
    take_type(search, candidate, variable);
    if (!variable->is_thread_local)
        variable->addr = variable->module->bias + variable->file_addr;
    return 0;
}

static int find(struct search *search, struct tl_variable *variable)
{
    const struct tl_variable_name *asked = search->asked;
    bool by_scope = scope_is_module(search->modules, asked->scope);
    size_t count;
    if (asked->scope && asked->file && !by_scope) {
        int result = tl_fail(search->error, -ENOENT, "no file or library %.200s is loaded", asked->scope);
        if (search->error)
            search->error->column = (int)asked->scope_column;
        return result;
    }
    search->file = asked->file ? asked->file : asked->scope && !by_scope ? asked->scope : NULL;
    const struct candidate *best = search_names(search, by_scope, &count);
    int result = 0;
    if (count == 1)
        result = fill(search, best, variable);
    else if (count > 1)
        result = search_fail_ambiguous(search, best);
    else if (!(result = search_fail_placeless(search)))
        result = search_fail_unknown(search, by_scope);
    if (!result)
        return variable_walk(variable, search, search->error);
    if (search->error)
        search->error->column = (int)asked->column;
    return result;
}

int tl_modules_variable(const struct tl_modules *modules, const struct tl_variable_name *name,
                        struct tl_variable *variable, struct tl_error *error)
{
    struct search search = {.modules = modules, .asked = name, .error = error};
    *variable = (struct tl_variable){0};
    int result = find(&search, variable);
    if (search.found.no_memory)
        result = tl_fail(error, -ENOMEM, "out of memory");
    candidates_free(&search.found);
    if (result)
        tl_variable_free(variable);
    return result;
}

void tl_variable_free(struct tl_variable *variable)
{
    free(variable->name);
    tl_datatype_free(variable->whole);
    *variable = (struct tl_variable){0};
}

bool tl_modules_name(void *context, uint64_t addr, char *text, size_t size)
{
    const struct tl_module *module = tl_modules_at(context, addr);
    if (!module || !module->object)
        return false;
    uint64_t at = addr - module->bias;
    const struct tl_function *found = tl_object_function_at(module->object, at);
    if (!found || !found->name)
        found = table_at(&module->object->variables, at);
    if (!found)
        return false;
    if (at == found->addr)
        snprintf(text, size, "%s", found->name);
    else
        snprintf(text, size, "%s+0x%llx", found->name, (unsigned long long)(at - found->addr));
    return true;
}
