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

enum { LISTED = 6 };

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

struct search {
    const struct tl_modules *modules;
    const struct tl_variable_name *asked;
    const char *wanted, *base; /* the name in full; its last component */
    const char *file;          /* the source file, or NULL */
    const struct tl_module *module;
    struct candidates found;
    size_t first; /* of the module under way */
    struct tl_error *error;
};

static bool has_place(const struct candidate *candidate)
{
    return candidate->finding <= FOUND_FUNCTION;
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

static bool as_good(const struct search *search, const struct candidate *candidate, const struct candidate *best)
{
    return has_place(candidate) && candidate->rank == best->rank &&
           (candidate->finding == FOUND_FUNCTION) == (best->finding == FOUND_FUNCTION) &&
           (!search->file || file_fits(candidate->file, search->file));
}

static int by_words(const void *left, const void *right)
{
    return strcmp(left, right);
}

/* What names one of several: with its module and its file where another one has the same name; of paths the last part,
 * where that is enough. */
static void describe(const struct search *search, size_t index, const struct candidate *best, char *text, size_t room)
{
    const struct candidate *list = search->found.list, *c = &list[index];
    bool other_module = false, same_name = false, same_base = false;
    for (size_t i = 0; i < search->found.count; i++) {
        if (i == index || !as_good(search, &list[i], best))
            continue;
        other_module |= list[i].module != c->module;
        same_name |= list[i].module == c->module && !strcmp(list[i].name, c->name);
        same_base |= list[i].file && c->file && list[i].module == c->module && strcmp(list[i].file, c->file) != 0 &&
                     !strcmp(tl_base_name(list[i].file), tl_base_name(c->file));
    }
    const char *module = other_module ? tl_base_name(c->module->path) : "";
    const char *file = !same_name || !c->file ? "" : same_base ? c->file : tl_base_name(c->file);
    snprintf(text, room, "%.60s%s%.60s%s%.80s", module, *module ? ":" : "", file, *file ? ":" : "", c->name);
}

static int fail_ambiguous(const struct search *search, const struct candidate *best)
{
    enum { WORDS = 210, MOST = 64 };
    char(*words)[WORDS] = calloc(MOST, WORDS), text[300] = "";
    size_t used = 0, total = 0, listed = 0;
    for (size_t i = 0; words && i < search->found.count && total < MOST; i++)
        if (as_good(search, &search->found.list[i], best))
            describe(search, i, best, words[total++], WORDS);
    if (total)
        qsort(words, total, WORDS, by_words);
    for (; listed < total && listed < LISTED && used + WORDS / 2 < sizeof text; listed++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", listed ? ", " : "", words[listed]);
    free(words);
    return tl_fail(search->error, -ENOTUNIQ, "%.80s is ambiguous: %.290s%s", search->asked->name, text,
                   total > listed ? ", …" : "");
}

/* There is no place for it: what debug information says of that. */
static int fail_placeless(const struct search *search)
{
    static const struct {
        const char *what, *why;
    } says[] = {
        [FOUND_LOCAL] = {"is a local variable", "only variables that keep one address can be watched by name"},
        [FOUND_REGISTER] = {"is kept in a register", "memory can be watched, registers cannot"},
        [FOUND_PIECES] = {"has been taken apart by the compiler", "it has no one place in memory"},
        [FOUND_COMPUTED] = {"has no fixed place", "the compiler moves or computes it"},
        [FOUND_CONSTANT] = {"has been optimised away to a constant", "no memory holds it"},
        [FOUND_NOWHERE] = {"has been optimised away", "no memory holds it"},
    };
    const struct candidate *best = NULL;
    for (size_t i = 0; i < search->found.count; i++) {
        const struct candidate *candidate = &search->found.list[i];
        if (candidate->finding < FOUND_LOCAL || (search->file && !file_fits(candidate->file, search->file)))
            continue;
        if (!best || candidate->rank < best->rank)
            best = candidate;
    }
    if (!best)
        return 0;
    const char *base = name_base(best->name);
    bool has_function = best->in_function && base > best->name + 2;
    int length = has_function ? (int)(base - 2 - best->name) : 0;
    return tl_fail(search->error, -ENOTSUP, "%.80s %s%s%.*s: %s", search->asked->name, says[best->finding].what,
                   has_function ? " in " : "", length < 100 ? length : 100, best->name, says[best->finding].why);
}

struct offering {
    struct nearest *nearest;
    bool plain_only; /* debug information has the names that compilers have changed */
};

static void offer_symbol(void *context, const struct symbol *symbol)
{
    const struct offering *offering = context;
    struct nearest *nearest = offering->nearest;
    char raw[128], plain[256];
    if ((symbol->type != STT_OBJECT && symbol->type != STT_TLS) || symbol->length >= sizeof raw)
        return;
    memcpy(raw, symbol->name, symbol->length);
    raw[symbol->length] = '\0';
    if (offering->plain_only && strchr(raw, '.'))
        return;
    const char *name = name_demangle(raw, plain, sizeof plain) ? plain : raw;
    nearest_offer(nearest, strstr(nearest->wanted, "::") ? name : name_base(name));
}

static bool is_meant(const struct search *search, size_t index, bool by_scope)
{
    const struct tl_module *module = &search->modules->modules[index];
    if (!module->object)
        return false;
    return !by_scope || tl_modules_find(search->modules, search->asked->scope, index) == (int)index;
}

/* It is not in the file that was named, but in others. */
static int fail_other_file(const struct search *search)
{
    char text[200] = "";
    size_t used = 0;
    for (size_t i = 0; i < search->found.count; i++) {
        const struct candidate *c = &search->found.list[i];
        const char *base = c->file ? tl_base_name(c->file) : NULL;
        if (!has_place(c) || !base || strstr(text, base) || used + 80 > sizeof text)
            continue;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%.70s", used ? ", " : "", base);
    }
    return used ? tl_fail(search->error, -ENOENT, "no variable %.80s in %.100s, only in %s", search->asked->name,
                          search->file, text)
                : 0;
}

/* Symbol tables tell the files of local symbols only. */
static bool lacks_file(const struct search *search)
{
    for (size_t i = 0; i < search->found.count; i++)
        if (has_place(&search->found.list[i]) && !search->found.list[i].file)
            return search->file != NULL;
    return false;
}

static int fail_unknown(const struct search *search, bool by_scope)
{
    struct nearest nearest = {.wanted = search->asked->name};
    struct offering offering = {.nearest = &nearest};
    char suggestion[220], where[120] = "";
    bool has_names = false;
    int result = search->file ? fail_other_file(search) : 0;
    if (result)
        return result;
    if (lacks_file(search))
        return tl_fail(search->error, -ENOENT,
                       "nothing tells the source file of %.80s (no debug information): leave the file out",
                       search->asked->name);
    for (size_t i = 0; i < search->modules->count; i++) {
        struct tl_object *object = search->modules->modules[i].object;
        if (!is_meant(search, i, by_scope))
            continue;
        offering.plain_only = object_need_dwarf(object) != NULL;
        object_each_symbol(object, offer_symbol, &offering);
        dwarf_offer_variables(object, &nearest);
        has_names |= object_section(object, SHT_SYMTAB, NULL, NULL) || object->debug || object_need_dwarf(object);
        if (i == 0 && nearest.count && nearest.best[0].distance <= 1)
            break;
    }
    nearest_say(&nearest, suggestion, sizeof suggestion);
    if (search->file)
        snprintf(where, sizeof where, " in %.100s", search->file);
    else if (by_scope)
        snprintf(where, sizeof where, " in %.100s", search->asked->scope);
    return tl_fail(search->error, -ENOENT, "no variable %.80s%s%s%s", search->asked->name, where,
                   has_names || nearest.count ? "" : " (stripped: only exported names are known)", suggestion);
}

/* Modules in which the name is looked for, until that is enough. */
static void search_modules(struct search *search, bool by_scope)
{
    for (size_t i = 0; i < search->modules->count; i++) {
        const struct candidate *best;
        if (is_meant(search, i, by_scope))
            search_module(search, &search->modules->modules[i]);
        /* The program's own goes before what the libraries have. */
        if (i == 0 && best_of(search, &best) && best->rank == RANK_EXACT && best->finding != FOUND_FUNCTION)
            return;
    }
}

/* As a symbol with dots in its name, then as a variable with a path. */
static const struct candidate *search_names(struct search *search, bool by_scope, size_t *count)
{
    const struct candidate *best;
    search->wanted = search->asked->whole;
    if (search->asked->step_count && search->asked->whole) {
        search_modules(search, by_scope);
        *count = best_of(search, &best);
        if (*count && best->rank == RANK_EXACT)
            return best;
        candidates_free(&search->found);
    }
    search->wanted = search->asked->name;
    search_modules(search, by_scope);
    *count = best_of(search, &best);
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
        result = fail_ambiguous(search, best);
    else if (!(result = fail_placeless(search)))
        result = fail_unknown(search, by_scope);
    if (!result && search->wanted == asked->name)
        result = variable_walk(variable, asked, search->error);
    else if (result && search->error)
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
