/* SPDX-License-Identifier: MIT */
#include "forms.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1 << 16 };

void forms_init(struct form_set *set)
{
    *set = (struct form_set){.forms = calloc(BUCKETS / 2, sizeof *set->forms),
                             .buckets = calloc(BUCKETS, sizeof *set->buckets)};
    if (!set->forms || !set->buckets)
        err(1, NULL);
}

void forms_free(struct form_set *set)
{
    free(set->forms);
    free(set->buckets);
}

static uint8_t special_register(ZydisRegister reg)
{
    switch (reg) {
    case ZYDIS_REGISTER_RSP:
    case ZYDIS_REGISTER_ESP:
    case ZYDIS_REGISTER_SP:
    case ZYDIS_REGISTER_SPL:
        return 1;
    case ZYDIS_REGISTER_AH:
    case ZYDIS_REGISTER_BH:
    case ZYDIS_REGISTER_CH:
    case ZYDIS_REGISTER_DH:
        return 2;
    default:
        return 0;
    }
}

static struct form_operand operand_kind(const ZydisDecodedOperand *operand)
{
    struct form_operand kind = {
        .size = operand->size, .type = (uint8_t)operand->type, .actions = (uint8_t)operand->actions};
    if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        kind.kind = (uint8_t)ZydisRegisterGetClass(operand->reg.value);
        kind.detail = special_register(operand->reg.value);
    }
    if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY) {
        kind.kind = (uint8_t)operand->mem.type;
        kind.detail =
            (uint8_t)((operand->mem.base != ZYDIS_REGISTER_NONE) | (operand->mem.index != ZYDIS_REGISTER_NONE) << 1 |
                      operand->mem.disp.has_displacement << 2 | special_register(operand->mem.base) << 3);
    }
    return kind;
}

static struct form_key key_of(const ZydisDecodedInstruction *zydis, const ZydisDecodedOperand *operands)
{
    const uint64_t prefixes = ZYDIS_ATTRIB_HAS_LOCK | ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
                              ZYDIS_ATTRIB_HAS_REPNE | ZYDIS_ATTRIB_HAS_BND | ZYDIS_ATTRIB_HAS_XACQUIRE |
                              ZYDIS_ATTRIB_HAS_XRELEASE | ZYDIS_ATTRIB_HAS_NOTRACK | ZYDIS_ATTRIB_HAS_SEGMENT |
                              ZYDIS_ATTRIB_HAS_OPERANDSIZE | ZYDIS_ATTRIB_HAS_ADDRESSSIZE | ZYDIS_ATTRIB_HAS_REX;
    struct form_key key;
    memset(&key, 0, sizeof key); /* padding is compared too */
    key.prefixes = zydis->attributes & prefixes;
    key.mnemonic = (uint16_t)zydis->mnemonic;
    key.vector_length = zydis->avx.vector_length;
    key.encoding = (uint8_t)zydis->encoding;
    key.opcode_map = (uint8_t)zydis->opcode_map;
    key.opcode = zydis->opcode;
    key.operand_width = zydis->operand_width;
    key.address_width = zydis->address_width;
    key.mask = (uint8_t)zydis->avx.mask.mode;
    key.broadcast = (uint8_t)zydis->avx.broadcast.mode;
    key.rounding = (uint8_t)zydis->avx.rounding.mode;
    key.sae = zydis->avx.has_sae;
    key.rip_relative = (zydis->attributes & ZYDIS_ATTRIB_HAS_MODRM) && zydis->raw.modrm.mod == 0 &&
                       zydis->raw.modrm.rm == 5 && zydis->raw.disp.size == 32;
    key.operand_count = zydis->operand_count_visible;
    for (size_t i = 0; i < zydis->operand_count_visible && i < 5; i++)
        key.operands[i] = operand_kind(&operands[i]);
    return key;
}

static uint32_t hash(const struct form_key *key)
{
    uint32_t sum = 2166136261u;
    const uint8_t *bytes = (const uint8_t *)key;
    for (size_t i = 0; i < sizeof *key; i++)
        sum = (sum ^ bytes[i]) * 16777619u;
    return sum;
}

static struct form *find(struct form_set *set, const struct form_key *key)
{
    uint32_t bucket = hash(key) % BUCKETS;
    for (; set->buckets[bucket]; bucket = (bucket + 1) % BUCKETS) {
        struct form *form = &set->forms[set->buckets[bucket] - 1];
        if (memcmp(&form->key, key, sizeof *key) == 0)
            return form;
    }
    if (set->count == BUCKETS / 2)
        errx(1, "more forms than expected");
    struct form *form = &set->forms[set->count++];
    set->buckets[bucket] = (uint32_t)set->count;
    memcpy(&form->key, key, sizeof *key);
    form->displacement = UINT64_MAX;
    return form;
}

void forms_add(struct form_set *set, const uint8_t *bytes, size_t length, uint16_t variety)
{
    ZydisDecoder decoder;
    ZydisDecodedInstruction zydis;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, bytes, length, &zydis, operands)))
        errx(1, "what a sweep trusts does not decode");
    struct form_key key = key_of(&zydis, operands);
    key.variety = variety;
    struct form *form = find(set, &key);
    uint64_t displacement = (uint64_t)llabs(zydis.raw.disp.value);
    form->seen++;
    if (displacement >= form->displacement)
        return;
    form->displacement = displacement;
    form->length = zydis.length;
    memcpy(form->bytes, bytes, zydis.length);
}

void forms_add_subject(struct form_set *set, const char *name)
{
    struct tl_subject subject;
    tl_subject_open(name, &subject);
    for (size_t i = 0; i < subject.range_count; i++) {
        const struct tl_range *range = &subject.ranges[i];
        struct tl_sweep sweep;
        tl_subject_sweep(&subject, range, &sweep);
        for (uint64_t addr = tl_sweep_next(&sweep, 0); addr; addr = tl_sweep_next(&sweep, addr + 1))
            forms_add(set, range->bytes + (addr - range->addr), range->size - (addr - range->addr), 0);
        tl_sweep_free(&sweep);
    }
    tl_subject_close(&subject);
}

void form_text(const struct form *form, char *text, size_t size)
{
    ZydisDecoder decoder;
    ZydisFormatter formatter;
    ZydisDecodedInstruction zydis;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    ZydisDecoderDecodeFull(&decoder, form->bytes, form->length, &zydis, operands);
    ZydisFormatterFormatInstruction(&formatter, &zydis, operands, zydis.operand_count_visible, text, size,
                                    ZYDIS_RUNTIME_ADDRESS_NONE, NULL);
}
