/* SPDX-License-Identifier: MIT
 *
 * What this room shares of the decoder underneath. For this room only: nobody else sees Zydis. As safe as insn.h.
 */
#ifndef TRAPLINE_INSN_DECODE_H
#define TRAPLINE_INSN_DECODE_H

#include <Zydis/Zydis.h>

#include "insn/insn.h"

void tl_decoder_init(ZydisDecoder *decoder);

/* As tl_insn_decode, with a decoder set up once for many instructions. */
int tl_decode_with(const ZydisDecoder *decoder, const uint8_t *text, size_t available, uint64_t addr,
                   struct tl_insn *insn);

/* The whole of what Zydis knows about an instruction that tl_insn_decode has accepted; the operands that nobody writes
 * down (mulx reads rdx…) included. false where Zydis does not agree any more: the caller filled in `insn` itself. */
bool tl_decode_full(const struct tl_insn *insn, ZydisDecodedInstruction *full,
                    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT]);

/* 0 for rax … 15 for r15, of whatever part of it the register is (ah, eax, r9w…); TL_NO_REG for all others. */
uint8_t tl_register_number(ZydisRegister reg);

#endif
