/* SPDX-License-Identifier: MIT
 *
 * Why a name names no variable that could be watched.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "symbol/variables.h"

enum { LISTED = 6 };

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

int search_fail_ambiguous(const struct search *search, const struct candidate *best)
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
int search_fail_placeless(const struct search *search)
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

static bool offer_all(const struct search *search, bool by_scope, struct nearest *nearest)
{
    struct offering offering = {.nearest = nearest};
    bool has_names = false;
    for (size_t i = 0; i < search->modules->count; i++) {
        struct tl_object *object = search->modules->modules[i].object;
        if (!search_includes(search, i, by_scope))
            continue;
        offering.plain_only = object_need_dwarf(object) != NULL;
        object_each_symbol(object, offer_symbol, &offering);
        dwarf_offer_variables(object, nearest);
        has_names |= object_section(object, SHT_SYMTAB, NULL, NULL) || object->debug || object_need_dwarf(object);
        if (i == 0 && nearest->count && nearest->best[0].distance <= 1)
            break;
    }
    return has_names;
}

static bool has_unit(Dwarf *dwarf, const char *file)
{
    Dwarf_Off next;
    size_t header;
    for (Dwarf_Off at = 0; !dwarf_nextcu(dwarf, at, &next, &header, NULL, NULL, NULL); at = next) {
        Dwarf_Die unit;
        const char *name = dwarf_offdie(dwarf, at + header, &unit) ? dwarf_diename(&unit) : NULL;
        if (name && file_fits(name, file))
            return true;
    }
    return false;
}

static bool is_source_file(const struct search *search)
{
    for (size_t i = 0; i < search->modules->count; i++) {
        struct tl_object *object = search->modules->modules[i].object;
        Dwarf *dwarf = object ? object_need_dwarf(object) : NULL;
        if (dwarf && has_unit(dwarf, search->asked->scope))
            return true;
    }
    return false;
}

/* A path that is of no module may be a source file's, whether or not it is to be found here. */
static int fail_path(const struct search *search)
{
    const char *path = search->asked->scope;
    if (access(path, F_OK))
        return tl_fail(search->error, -ENOENT, "%.200s: %s", path, strerror(errno));
    return tl_fail(search->error, -ENOENT, "no variable %.80s: %.200s is not in the program", search->asked->name,
                   path);
}

int search_fail_unknown(const struct search *search, bool by_scope)
{
    const struct tl_variable_name *asked = search->asked;
    struct nearest nearest = {.wanted = asked->step_count && asked->whole ? asked->whole : asked->name};
    char suggestion[220], where[120] = "";
    if (asked->scope && !by_scope && strchr(asked->scope, '/') && !is_source_file(search))
        return fail_path(search);
    int result = search->file ? fail_other_file(search) : 0;
    if (result)
        return result;
    if (lacks_file(search))
        return tl_fail(search->error, -ENOENT,
                       "nothing tells the source file of %.80s (no debug information): leave the file out",
                       asked->name);
    bool has_names = offer_all(search, by_scope, &nearest);
    if (!nearest.count && nearest.wanted != asked->name) { /* the dots were no part of a name */
        nearest.wanted = asked->name;
        offer_all(search, by_scope, &nearest);
    }
    nearest_say(&nearest, suggestion, sizeof suggestion);
    if (search->file)
        snprintf(where, sizeof where, " in %.100s", search->file);
    else if (by_scope)
        snprintf(where, sizeof where, " in %.100s", asked->scope);
    return tl_fail(search->error, -ENOENT, "no variable %.80s%s%s%s", nearest.wanted, where,
                   has_names || nearest.count ? "" : " (stripped: only exported names are known)", suggestion);
}
