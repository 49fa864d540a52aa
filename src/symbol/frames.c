/* SPDX-License-Identifier: MIT
 *
 * Ranges of code out of .eh_frame: every function that can be unwound has one, also in a stripped file.
 *
 * libdw splits the section into its records; where a range begins and ends is decoded here, and so is one thing more:
 * whether the frame state at its start is that of a function that was just called (the frame address is rsp + 8,
 * nothing is saved). Where it is not, the range is a piece that its function jumps to, as compilers place unlikely code
 * elsewhere.
 */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <stdlib.h>
#include <string.h>

#include "symbol/object.h"

enum { REGISTER_RSP = 7 };

/* Bytes being read; `bad` once something did not fit. */
struct cursor {
    const uint8_t *at, *end;
    bool bad;
};

static uint64_t fixed(struct cursor *c, size_t size, bool is_signed)
{
    uint64_t value = 0;
    if ((size_t)(c->end - c->at) < size) {
        c->bad = true;
        return 0;
    }
    memcpy(&value, c->at, size);
    c->at += size;
    if (is_signed && size < 8 && (value >> (size * 8 - 1)) & 1)
        value |= UINT64_MAX << (size * 8);
    return value;
}

static uint64_t leb128(struct cursor *c, bool is_signed)
{
    uint64_t value = 0;
    for (unsigned shift = 0; c->at < c->end; shift += 7) {
        uint8_t byte = *c->at++;
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            if (is_signed && (byte & 0x40) && shift + 7 < 64)
                value |= UINT64_MAX << (shift + 7);
            return value;
        }
    }
    c->bad = true;
    return 0;
}

/* A pointer in one of the encodings of .eh_frame; `base` is the address of the section's first byte, `data` its bytes.
 */
static uint64_t encoded(struct cursor *c, unsigned encoding, uint64_t base, const uint8_t *data)
{
    uint64_t place = base + (uint64_t)(c->at - data), value = 0;
    switch (encoding & 0x0f) {
    case DW_EH_PE_absptr:
    case DW_EH_PE_udata8:
    case DW_EH_PE_sdata8:
        value = fixed(c, 8, false);
        break;
    case DW_EH_PE_udata4:
        value = fixed(c, 4, false);
        break;
    case DW_EH_PE_sdata4:
        value = fixed(c, 4, true);
        break;
    case DW_EH_PE_udata2:
        value = fixed(c, 2, false);
        break;
    case DW_EH_PE_sdata2:
        value = fixed(c, 2, true);
        break;
    case DW_EH_PE_uleb128:
        value = leb128(c, false);
        break;
    case DW_EH_PE_sleb128:
        value = leb128(c, true);
        break;
    default:
        c->bad = true;
    }
    if ((encoding & 0x70) == DW_EH_PE_pcrel)
        value += place;
    else if ((encoding & 0xf0) !=
             0) /* text-, data-, function-relative, indirect: not used for code in any compiler's output */
        c->bad = true;
    return value;
}

/* What is needed of a CIE. */
struct cie {
    Dwarf_Off offset;
    bool good, augmented, signal;
    unsigned encoding; /* of its FDEs' addresses */
};

static struct cie read_cie(const Dwarf_CIE *record, Dwarf_Off offset)
{
    struct cie cie = {.offset = offset, .good = true, .encoding = DW_EH_PE_absptr};
    const char *augmentation = record->augmentation;
    if (*augmentation != 'z') {
        cie.good = *augmentation == '\0';
        return cie;
    }
    cie.augmented = true;
    struct cursor c = {record->augmentation_data, record->augmentation_data + record->augmentation_data_size, false};
    if (!record->augmentation_data)
        c.at = c.end = (const uint8_t *)"";
    for (augmentation++; *augmentation; augmentation++) {
        if (*augmentation == 'R') {
            cie.encoding = (unsigned)fixed(&c, 1, false);
        } else if (*augmentation == 'L') {
            fixed(&c, 1, false);
        } else if (*augmentation == 'P') {
            unsigned encoding = (unsigned)fixed(&c, 1, false);
            encoded(&c, encoding & 0x0f, 0, c.at);
        } else if (*augmentation == 'S') {
            cie.signal = true;
        } else {
            break; /* whatever follows an unknown letter cannot be read */
        }
    }
    cie.good = !c.bad;
    return cie;
}

/* Whether the frame is that of a fresh call, by the instructions of an FDE up to where its first row ends. */
static bool begins_like_a_function(struct cursor c)
{
    while (c.at < c.end) {
        uint8_t operation = *c.at++;
        switch (operation >> 6) {
        case 1: /* advance_loc */
            return true;
        case 2: /* offset: a register is saved already */
        case 3:
            return false;
        }
        switch (operation) {
        case DW_CFA_nop:
        case DW_CFA_remember_state:
            continue;
        case DW_CFA_GNU_args_size:
            leb128(&c, false);
            continue;
        case DW_CFA_def_cfa:
            if (leb128(&c, false) != REGISTER_RSP || leb128(&c, false) != 8)
                return false;
            continue;
        case DW_CFA_def_cfa_offset:
            if (leb128(&c, false) != 8)
                return false;
            continue;
        case DW_CFA_def_cfa_register:
            if (leb128(&c, false) != REGISTER_RSP)
                return false;
            continue;
        case DW_CFA_set_loc:
        case DW_CFA_advance_loc1:
        case DW_CFA_advance_loc2:
        case DW_CFA_advance_loc4:
        case DW_CFA_MIPS_advance_loc8:
        case DW_CFA_undefined: /* the outermost function: _start says that there is no return address */
            return true;
        default:
            return false;
        }
    }
    return true;
}

/* The section: by its name, or, in a file without section headers, through the header that the unwinder uses. */
static const uint8_t *find_section(struct tl_object *object, uint64_t *addr, uint64_t *size)
{
    const Elf64_Shdr *section = NULL;
    while ((section = object_section(object, 0, ".eh_frame", section))) {
        if (section->sh_type == SHT_NOBITS)
            continue;
        *addr = section->sh_addr;
        *size = section->sh_size;
        return object_bytes(object, section->sh_offset, section->sh_size);
    }
    for (size_t i = 0; i < object->program_header_count; i++) {
        const Elf64_Phdr *p = &object->program_headers[i];
        if (p->p_type != PT_GNU_EH_FRAME)
            continue;
        const uint8_t *header = object_data(object, p->p_vaddr, 12);
        if (!header || header[0] != 1)
            return NULL;
        struct cursor c = {header + 4, header + 12, false};
        *addr = encoded(&c, header[1], p->p_vaddr, header);
        const struct segment *segment = c.bad ? NULL : object_segment(object, *addr, false);
        if (!segment)
            return NULL;
        *size = segment->size - (*addr - segment->addr);
        return object_data(object, *addr, *size);
    }
    return NULL;
}

static int by_address(const void *left, const void *right)
{
    const struct frame *a = left, *b = right;
    if (a->addr != b->addr)
        return a->addr < b->addr ? -1 : 1;
    return a->size < b->size ? -1 : a->size > b->size;
}

/* In order of address, cut to the segment, and no two over one byte. */
static void settle(struct tl_object *object)
{
    size_t kept = 0;
    uint64_t end = 0;
    if (object->frame_count)
        qsort(object->frames, object->frame_count, sizeof *object->frames, by_address);
    for (size_t i = 0; i < object->frame_count; i++) {
        struct frame frame = object->frames[i];
        const struct segment *segment = object_segment(object, frame.addr, true);
        if (!segment || frame.size == 0 || frame.addr < end)
            continue;
        uint64_t most = segment->size - (frame.addr - segment->addr);
        if (frame.size > most)
            frame.size = most;
        end = frame.addr + frame.size;
        object->frames[kept++] = frame;
    }
    object->frame_count = kept;
}

static bool add_frame(struct tl_object *object, const struct frame *frame)
{
    struct frame *grown = tl_array_grown(object->frames, object->frame_count, &object->frame_room, sizeof *grown);
    if (!grown)
        return false;
    object->frames = grown;
    object->frames[object->frame_count++] = *frame;
    return true;
}

void object_need_frames(struct tl_object *object)
{
    if (object->have.frames)
        return;
    object->have.frames = true;
    uint64_t base = 0, size = 0;
    const uint8_t *bytes = find_section(object, &base, &size);
    if (!bytes)
        return;
    Elf_Data data = {.d_buf = (void *)bytes, .d_type = ELF_T_BYTE, .d_version = EV_CURRENT, .d_size = size};
    struct cie cie = {.offset = (Dwarf_Off)-1};
    Dwarf_CFI_Entry entry;
    for (Dwarf_Off offset = 0, next; offset < size; offset = next) {
        next = (Dwarf_Off)-1;
        int result = dwarf_next_cfi(object->header.e_ident, &data, true, offset, &next, &entry);
        if (result == 1 || next == (Dwarf_Off)-1 || next <= offset)
            break;
        if (result < 0 || dwarf_cfi_cie_p(&entry))
            continue;
        Dwarf_FDE fde = entry.fde;
        if (fde.CIE_pointer != cie.offset) {
            Dwarf_Off behind;
            cie = (struct cie){.offset = fde.CIE_pointer};
            if (fde.CIE_pointer < size &&
                dwarf_next_cfi(object->header.e_ident, &data, true, fde.CIE_pointer, &behind, &entry) == 0 &&
                dwarf_cfi_cie_p(&entry))
                cie = read_cie(&entry.cie, fde.CIE_pointer);
        }
        if (!cie.good)
            continue;
        struct cursor c = {fde.start, fde.end, false};
        struct frame frame;
        frame.addr = encoded(&c, cie.encoding, base, bytes);
        frame.size = encoded(&c, cie.encoding & 0x0f, base, bytes);
        if (cie.augmented) {
            uint64_t length = leb128(&c, false);
            if (length > (uint64_t)(c.end - c.at))
                continue;
            c.at += length;
        }
        if (c.bad)
            continue;
        frame.signal = cie.signal;
        frame.entry = !cie.signal && begins_like_a_function(c);
        if (!add_frame(object, &frame))
            break;
    }
    settle(object);
}

const struct frame *object_frame_at(struct tl_object *object, uint64_t addr)
{
    size_t begun =
        tl_array_upto(object->frames, object->frame_count, sizeof *object->frames, offsetof(struct frame, addr), addr);
    const struct frame *frame = begun ? &object->frames[begun - 1] : NULL;
    return frame && addr - frame->addr < frame->size ? frame : NULL;
}

bool tl_object_is_signal_frame(const struct tl_object *object, uint64_t addr)
{
    struct tl_object *lasting = (struct tl_object *)(uintptr_t)object;
    object_need_frames(lasting);
    const struct frame *frame = object_frame_at(lasting, addr - 1);
    return frame && frame->signal && addr - frame->addr < frame->size;
}
