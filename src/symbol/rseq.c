/* SPDX-License-Identifier: MIT
 *
 * Restartable sequences: the kernel sends a thread that was interrupted in one to its abort handler, in front of which
 * stands a signature. The section __rseq_cs describes them. In a position-independent file the addresses in it may be
 * zeros that a relocation fills.
 */
#include <stdlib.h>
#include <string.h>

#include "symbol/object.h"

/* An entry of the section, as the kernel's ABI has it. */
struct entry {
    uint32_t version, flags;
    uint64_t start, post_commit, abort;
};
enum { SIGNATURE_SIZE = 4 };

struct fill {
    uint64_t addr;
    struct entry *entries;
    size_t count;
};

static int apply(void *context, const Elf64_Rela *rela, const Elf64_Shdr *section)
{
    struct fill *fill = context;
    uint64_t at = rela->r_offset - fill->addr;
    (void)section;
    if (ELF64_R_TYPE(rela->r_info) != R_X86_64_RELATIVE || at / sizeof(struct entry) >= fill->count)
        return 0;
    struct entry *entry = &fill->entries[at / sizeof(struct entry)];
    if (at % sizeof(struct entry) == offsetof(struct entry, start))
        entry->start = (uint64_t)rela->r_addend;
    if (at % sizeof(struct entry) == offsetof(struct entry, abort))
        entry->abort = (uint64_t)rela->r_addend;
    return 0;
}

static void read_section(struct tl_object *object, const Elf64_Shdr *section)
{
    size_t count = section->sh_size / sizeof(struct entry);
    const void *bytes = object_bytes(object, section->sh_offset, count * sizeof(struct entry));
    struct fill fill = {.addr = section->sh_addr, .entries = malloc(count * sizeof(struct entry)), .count = count};
    struct rseq_range *grown = realloc(object->rseqs, (object->rseq_count + 2 * count) * sizeof *grown);
    if (grown)
        object->rseqs = grown;
    if (bytes && fill.entries && grown) {
        memcpy(fill.entries, bytes, count * sizeof(struct entry));
        object_each_relocation(object, apply, &fill);
        for (size_t i = 0; i < count; i++) {
            const struct entry *e = &fill.entries[i];
            if (e->start)
                object->rseqs[object->rseq_count++] = (struct rseq_range){e->start, e->start + e->post_commit};
            if (e->abort >= SIGNATURE_SIZE)
                object->rseqs[object->rseq_count++] = (struct rseq_range){e->abort - SIGNATURE_SIZE, e->abort};
        }
    }
    free(fill.entries);
}

static void need_rseqs(struct tl_object *object)
{
    if (object->have.rseqs)
        return;
    object->have.rseqs = true;
    const Elf64_Shdr *section = object_section(object, SHT_PROGBITS, "__rseq_cs", NULL);
    if (section && section->sh_size >= sizeof(struct entry))
        read_section(object, section);
}

bool tl_object_in_rseq(const struct tl_object *object, uint64_t addr)
{
    need_rseqs((struct tl_object *)object);
    for (size_t i = 0; i < object->rseq_count; i++)
        if (addr >= object->rseqs[i].start && addr < object->rseqs[i].end)
            return true;
    return false;
}
