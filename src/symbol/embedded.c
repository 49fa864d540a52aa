/* SPDX-License-Identifier: MIT
 *
 * The table of local functions that some distributions leave in stripped files: an ELF file of its own, compressed by
 * xz, in the section .gnu_debugdata.
 */
#include <lzma.h>
#include <stdlib.h>

#include "symbol/object.h"

/* Bounds what a hostile file can ask for; honest ones are a few per cent of their file. */
enum { UNPACKED_MAX = 64 << 20, DECODER_MEMORY_MAX = 64 << 20 };

/* All of it, or nothing. */
static uint8_t *unpack(const uint8_t *packed, size_t size, size_t *unpacked)
{
    lzma_stream stream = LZMA_STREAM_INIT;
    size_t room = size < UNPACKED_MAX / 4 ? size * 4 : UNPACKED_MAX;
    uint8_t *bytes = malloc(room);
    if (!bytes || lzma_stream_decoder(&stream, DECODER_MEMORY_MAX, 0) != LZMA_OK) {
        free(bytes);
        return NULL;
    }
    stream.next_in = packed;
    stream.avail_in = size;
    stream.next_out = bytes;
    stream.avail_out = room;
    lzma_ret result;
    while ((result = lzma_code(&stream, LZMA_FINISH)) == LZMA_OK && stream.avail_out == 0 && room < UNPACKED_MAX) {
        size_t more = room * 2 < UNPACKED_MAX ? room * 2 : UNPACKED_MAX;
        uint8_t *grown = realloc(bytes, more);
        if (!grown)
            break;
        stream.next_out = grown + room;
        stream.avail_out = more - room;
        bytes = grown;
        room = more;
    }
    *unpacked = stream.total_out;
    lzma_end(&stream);
    if (result == LZMA_STREAM_END)
        return bytes;
    free(bytes);
    return NULL;
}

struct tl_object *object_open_embedded(struct tl_object *object)
{
    const Elf64_Shdr *section = object_section(object, SHT_PROGBITS, ".gnu_debugdata", NULL);
    const uint8_t *packed = section ? object_bytes(object, section->sh_offset, section->sh_size) : NULL;
    struct tl_object *found = NULL;
    size_t size = 0;
    uint8_t *bytes = packed ? unpack(packed, section->sh_size, &size) : NULL;
    struct object_source source = {.path = object->display, .is_debug_file = true};
    if (bytes)
        object_open_bytes(&source, bytes, size, &found, NULL);
    free(bytes);
    return found;
}
