/* SPDX-License-Identifier: MIT
 *
 * The forms of instructions in real programs. A form is a mnemonic with the kinds of its operands, its prefixes, its
 * encoding, and whether it is relative to rip; what differs only in which register or which number, is the same form.
 */
#ifndef TRAPLINE_TESTS_INSN_FORMS_H
#define TRAPLINE_TESTS_INSN_FORMS_H

#include <Zydis/Zydis.h>

#include "subject.h"

struct form_operand {
    uint16_t size;
    uint8_t type, actions;
    uint8_t kind;   /* register: its class; memory: its type */
    uint8_t detail; /* memory: which parts of an address it has; register: those that are special */
};
struct form_key {
    uint64_t prefixes;
    uint16_t mnemonic, vector_length;
    uint16_t variety; /* 0, or a number of its own for an instruction that is to be a form of its own */
    uint8_t encoding, opcode_map, opcode, operand_width, address_width;
    uint8_t mask, broadcast, rounding, sae, rip_relative, operand_count;
    struct form_operand operands[5];
};
struct form {
    struct form_key key;
    uint8_t bytes[TL_INSN_MAX]; /* an example: of all that were seen, the one with the smallest displacement */
    uint8_t length;
    uint64_t displacement;
    size_t seen;
};
struct form_set {
    struct form *forms; /* in the order of their first appearance */
    size_t count;
    uint32_t *buckets; /* index + 1 into forms */
};

void forms_init(struct form_set *set);
void forms_free(struct form_set *set);
/* Count one instruction. */
void forms_add(struct form_set *set, const uint8_t *bytes, size_t length, uint16_t variety);
/* All instructions of a subject. */
void forms_add_subject(struct form_set *set, const char *name);
/* "mov rax, qword ptr [rip+0x10]" for the example, as if it stood at 0. */
void form_text(const struct form *form, char *text, size_t size);

#endif
