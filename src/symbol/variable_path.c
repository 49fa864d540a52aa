/* SPDX-License-Identifier: MIT
 *
 * From a variable on into its members and elements.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "symbol/variables.h"

struct place {
    const struct tl_datatype *type;
    uint64_t offset;
};

/* A member by name, also where it is one of an anonymous structure or a base class. */
static bool find_member(const struct tl_datatype *type, const char *name, struct place *place)
{
    for (int inner = 0; inner < 2; inner++) {
        for (uint64_t i = 0; type->members && i < type->count; i++) {
            const struct tl_member *member = &type->members[i];
            bool is_open = !member->name || member->is_base;
            if (inner != is_open || (!inner && strcmp(member->name, name) != 0))
                continue;
            uint64_t before = place->offset;
            place->type = member->type;
            place->offset += member->offset;
            if (!inner || find_member(member->type, name, place))
                return true;
            place->offset = before;
        }
    }
    return false;
}

static void offer_members(const struct tl_datatype *type, struct nearest *nearest)
{
    for (uint64_t i = 0; type->members && i < type->count; i++) {
        const struct tl_member *member = &type->members[i];
        if (member->name && !member->is_base)
            nearest_offer(nearest, member->name);
        else
            offer_members(member->type, nearest);
    }
}

static const char *word_for(const struct tl_datatype *type)
{
    return *type->name ? type->name : "of no known type";
}

static int fail_no_members(const struct tl_datatype *type, const char *so_far, struct tl_error *error)
{
    if (type->kind == TL_DATA_POINTER)
        return tl_fail(
            error, -ENOTSUP,
            "%.80s is a pointer (%.80s): what it points to now, it need not point to later; watch that address", so_far,
            type->name);
    return tl_fail(error, -ENOENT, "%.80s (%.80s) has no members", so_far, word_for(type));
}

static int step_to_member(struct place *place, const struct tl_step *step, const char *so_far, struct tl_error *error)
{
    const struct tl_datatype *type = place->type;
    char suggestion[200];
    if (type->kind != TL_DATA_STRUCT && type->kind != TL_DATA_UNION)
        return fail_no_members(type, so_far, error);
    if (find_member(type, step->name, place))
        return 0;
    struct nearest nearest = {.wanted = step->name};
    offer_members(type, &nearest);
    nearest_say(&nearest, suggestion, sizeof suggestion);
    return tl_fail(error, -ENOENT, "%.80s (%.60s) has no member %.80s%s", so_far, word_for(type), step->name,
                   suggestion);
}

static int step_to_element(struct place *place, const struct tl_step *step, const char *so_far, struct tl_error *error)
{
    const struct tl_datatype *type = place->type;
    if (type->kind == TL_DATA_POINTER)
        return fail_no_members(type, so_far, error);
    if (type->kind != TL_DATA_ARRAY)
        return tl_fail(error, -ENOENT, "%.80s (%.80s) has no elements", so_far, word_for(type));
    if (step->index >= type->count)
        return tl_fail(error, -ENOENT, "%.80s has %llu element%s, from 0 on", so_far, (unsigned long long)type->count,
                       type->count == 1 ? "" : "s");
    place->type = type->element;
    place->offset += step->index * type->element->size;
    return 0;
}

static int walk_steps(struct place *place, const struct search *search, struct tl_error *error)
{
    const struct tl_variable_name *asked = search->asked;
    char so_far[200];
    size_t used = (size_t)snprintf(so_far, sizeof so_far, "%.150s", search->wanted);
    for (size_t i = search->steps; i < asked->step_count; i++) {
        const struct tl_step *step = &asked->steps[i];
        int result = step->kind == TL_STEP_MEMBER ? step_to_member(place, step, so_far, error)
                                                  : step_to_element(place, step, so_far, error);
        if (result) {
            if (error)
                error->column = (int)step->column;
            return result;
        }
        if (used >= sizeof so_far)
            continue;
        used += step->kind == TL_STEP_MEMBER
                    ? (size_t)snprintf(so_far + used, sizeof so_far - used, ".%s", step->name)
                    : (size_t)snprintf(so_far + used, sizeof so_far - used, "[%llu]", (unsigned long long)step->index);
    }
    return 0;
}

int variable_walk(struct tl_variable *variable, const struct search *search, struct tl_error *error)
{
    const struct tl_variable_name *asked = search->asked;
    if (search->steps == asked->step_count)
        return 0;
    if (!variable->type) {
        int result = tl_fail(
            error, -ENOTSUP,
            "no debug information tells the members and elements of %.80s: mem:%.80s+OFFSET/LENGTH names a part of it",
            search->wanted, search->wanted);
        if (error)
            error->column = (int)asked->steps[search->steps].column;
        return result;
    }
    struct place place = {.type = variable->type};
    int result = walk_steps(&place, search, error);
    if (result)
        return result;
    variable->type = place.type;
    variable->size = place.type->size;
    variable->file_addr += place.offset;
    if (!variable->is_thread_local)
        variable->addr += place.offset;
    return 0;
}
