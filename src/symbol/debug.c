/* SPDX-License-Identifier: MIT
 *
 * The separate debug file of a stripped object: by build-id, or by the name and checksum in .gnu_debuglink; below
 * /usr/lib/debug, or beside the file; last of all what stands in the file itself. A file that does not belong to the
 * object (another build-id, another checksum) would give names to the wrong places, so it is left alone.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "symbol/object.h"

static const char debug_directory[] = "/usr/lib/debug";

/* The build-id within one range of notes. */
static size_t find_in_notes(const uint8_t *notes, uint64_t size, const uint8_t **id)
{
    for (uint64_t at = 0; notes && size - at >= sizeof(Elf64_Nhdr);) {
        Elf64_Nhdr note;
        memcpy(&note, notes + at, sizeof note);
        at += sizeof note;
        uint64_t name_size = ((uint64_t)note.n_namesz + 3) & ~3ull, content = ((uint64_t)note.n_descsz + 3) & ~3ull;
        if (name_size > size - at || content > size - at - name_size)
            break;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(notes + at, "GNU", 4) == 0) {
            *id = notes + at + name_size;
            return note.n_descsz;
        }
        at += name_size + content;
    }
    return 0;
}

size_t object_build_id(struct tl_object *object, const uint8_t **id)
{
    const Elf64_Shdr *section = NULL;
    while ((section = object_section(object, SHT_NOTE, NULL, section))) {
        size_t size = find_in_notes(object_bytes(object, section->sh_offset, section->sh_size), section->sh_size, id);
        if (size)
            return size;
    }
    for (size_t i = 0; i < object->program_header_count; i++) {
        const Elf64_Phdr *p = &object->program_headers[i];
        size_t size =
            p->p_type == PT_NOTE ? find_in_notes(object_bytes(object, p->p_offset, p->p_filesz), p->p_filesz, id) : 0;
        if (size)
            return size;
    }
    return 0;
}

/* The CRC-32 that .gnu_debuglink records of the whole debug file. */
static bool checksum_is(struct tl_object *file, uint32_t expected)
{
    uint32_t table[256], crc = UINT32_MAX;
    uint8_t bytes[16384];
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
    }
    for (uint64_t at = 0; at < file->size;) {
        uint64_t size = file->size - at < sizeof bytes ? file->size - at : sizeof bytes;
        if (!object_read(file, at, bytes, size))
            return false;
        for (uint64_t i = 0; i < size; i++)
            crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
        at += size;
    }
    return ~crc == expected;
}

/* Whether the file found is the object's: the same build-id, or where it has none, the checksum of its debug link. */
static bool belongs(struct tl_object *object, struct tl_object *found, const uint32_t *crc)
{
    const uint8_t *ours, *theirs;
    if (found->device == object->device && found->inode == object->inode)
        return false;
    size_t size = object_build_id(object, &ours), found_size = object_build_id(found, &theirs);
    if (size && found_size)
        return size == found_size && memcmp(ours, theirs, size) == 0;
    return crc && checksum_is(found, *crc);
}

static bool try_file(struct tl_object *object, const char *path, const uint32_t *crc)
{
    struct tl_object *found;
    struct object_source source = {.path = path, .is_debug_file = true};
    if (object_open(&source, &found, NULL) < 0)
        return false;
    if (!belongs(object, found, crc)) {
        tl_object_close(found);
        return false;
    }
    object->debug = found;
    return true;
}

static bool try_build_id(struct tl_object *object, const char *root)
{
    const uint8_t *id;
    size_t size = object_build_id(object, &id);
    char path[PATH_MAX], hex[2 * 64 + 1];
    if (size < 2 || size > 64)
        return false;
    for (size_t i = 0; i < size; i++)
        snprintf(hex + 2 * i, 3, "%02x", id[i]);
    int length = snprintf(path, sizeof path, "%s%s/.build-id/%.2s/%s.debug", root, debug_directory, hex, hex + 2);
    return length < (int)sizeof path && try_file(object, path, NULL);
}

static bool try_link(struct tl_object *object, const char *root)
{
    const Elf64_Shdr *section = object_section(object, SHT_PROGBITS, ".gnu_debuglink", NULL);
    const char *name = section ? object_bytes(object, section->sh_offset, section->sh_size) : NULL;
    size_t length = name ? strnlen(name, section->sh_size) : 0, crc_at = (length + 4) & ~(size_t)3;
    uint32_t crc;
    /* The name is one of a file, not of a way out of the directory. */
    if (length == 0 || memchr(name, '/', length) || crc_at + sizeof crc > section->sh_size)
        return false;
    memcpy(&crc, name + crc_at, sizeof crc);

    char directory[PATH_MAX], path[PATH_MAX];
    if (object->root && object->display[0] == '/')
        snprintf(directory, sizeof directory, "%s", object->display);
    else if (object->root || !realpath(object->path, directory))
        return false;
    *strrchr(directory, '/') = '\0';
    static const char *const places[][2] = {{"", ""}, {"", "/.debug"}, {debug_directory, ""}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int used = snprintf(path, sizeof path, "%s%s%s%s/%s", root, places[i][0], directory, places[i][1], name);
        if (used < (int)sizeof path && try_file(object, path, &crc))
            return true;
    }
    return false;
}

void object_need_debug(struct tl_object *object)
{
    if (object->have.debug)
        return;
    object->have.debug = true;
    if (try_build_id(object, ""))
        return;
    if (object->root && (try_build_id(object, object->root) || try_link(object, object->root)))
        return;
    if (!object->root && try_link(object, ""))
        return;
    object->debug = object_open_embedded(object);
}
