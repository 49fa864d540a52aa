/* SPDX-License-Identifier: MIT
 *
 * Trees of types: taking them apart.
 */
#include "symbol/type.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tl_datatype *tl_datatype_of_bytes(uint64_t size)
{
    struct tl_datatype *type = calloc(1, sizeof *type);
    if (!type)
        return NULL;
    type->size = size;
    type->name = strdup("");
    if (!type->name) {
        free(type);
        return NULL;
    }
    return type;
}

void tl_datatype_free(struct tl_datatype *type)
{
    if (!type)
        return;
    for (uint64_t i = 0; type->members && i < type->count; i++) {
        free(type->members[i].name);
        tl_datatype_free(type->members[i].type);
    }
    for (uint64_t i = 0; type->enumerators && i < type->count; i++)
        free(type->enumerators[i].name);
    tl_datatype_free(type->element);
    free(type->members);
    free(type->enumerators);
    free(type->name);
    free(type);
}

/* A path that grows to the right, and is cut back where it led nowhere. */
struct path {
    char *text;
    size_t used, room;
};

static void extend(struct path *path, const char *text)
{
    int length = snprintf(path->text + path->used, path->room - path->used, "%s", text);
    path->used += (size_t)length < path->room - path->used ? (size_t)length : path->room - path->used - 1;
}

static bool is_compound(const struct tl_datatype *type)
{
    return type->kind == TL_DATA_ARRAY || type->kind == TL_DATA_STRUCT || type->kind == TL_DATA_UNION;
}

static const struct tl_datatype *find(const struct tl_datatype *type, uint64_t offset, uint64_t size, struct path *path)
{
    size_t used = path->used;
    if (!type->bits && offset == 0 && (size ? type->size == size : !is_compound(type)))
        return type;
    if (type->kind == TL_DATA_ARRAY && type->element && type->element->size &&
        offset / type->element->size < type->count) {
        char index[24];
        snprintf(index, sizeof index, "[%llu]", (unsigned long long)(offset / type->element->size));
        extend(path, index);
        return find(type->element, offset % type->element->size, size, path);
    }
    for (uint64_t i = 0; type->members && i < type->count; i++) {
        const struct tl_member *member = &type->members[i];
        if (offset < member->offset || offset - member->offset >= member->type->size)
            continue;
        path->used = used;
        if (member->name && !member->is_base) {
            extend(path, ".");
            extend(path, member->name);
        }
        const struct tl_datatype *found = find(member->type, offset - member->offset, size, path);
        if (found)
            return found;
    }
    return NULL;
}

const struct tl_datatype *tl_datatype_at(const struct tl_datatype *type, uint64_t offset, uint64_t size, char *text,
                                         size_t room)
{
    struct path path = {.text = text, .room = room};
    const struct tl_datatype *found = find(type, offset, size, &path);
    text[found ? path.used : 0] = '\0';
    return found;
}
