/* SPDX-License-Identifier: MIT
 *
 * What an instruction is said to be: its length, where control goes, why it cannot be copied, its rip-relative operand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "insn/insn.h"

#define AT 0x555555555000ull
#define DECODE(insn, ...) decode((const uint8_t[]){__VA_ARGS__}, sizeof(const uint8_t[]){__VA_ARGS__}, insn)

static void decode(const uint8_t *bytes, size_t length, struct tl_insn *insn)
{
    assert_int_equal(tl_insn_decode(bytes, length, AT, insn), 0);
    assert_int_equal(insn->length, length);
    assert_memory_equal(insn->bytes, bytes, length);
    assert_int_equal(insn->addr, AT);
}

#define EXPECT(expected_flow, expected_why, ...)                                                                       \
    do {                                                                                                               \
        struct tl_insn insn;                                                                                           \
        DECODE(&insn, __VA_ARGS__);                                                                                    \
        assert_int_equal(insn.flow, expected_flow);                                                                    \
        assert_int_equal(insn.why, expected_why);                                                                      \
    } while (0)

static void transfers_are_sorted_by_where_they_go(void **state)
{
    (void)state;
    EXPECT(TL_FLOW_NEXT, TL_WHY_NONE, 0x90);
    EXPECT(TL_FLOW_NEXT, TL_WHY_NONE, 0xf3, 0x0f, 0x1e, 0xfa); /* endbr64 */
    EXPECT(TL_FLOW_NEXT, TL_WHY_NONE, 0xcd, 0x80);
    EXPECT(TL_FLOW_NEXT, TL_WHY_NONE, 0xf3, 0xa4);
    EXPECT(TL_FLOW_NEXT, TL_WHY_NONE, 0x8e, 0xd0);       /* mov ss, eax */
    EXPECT(TL_FLOW_NEXT, TL_WHY_NONE, 0x0f, 0x01, 0xd5); /* xend */
    EXPECT(TL_FLOW_NEXT, TL_WHY_NONE, 0xc6, 0xf8, 0x01); /* xabort */
    EXPECT(TL_FLOW_JUMP, TL_WHY_NONE, 0xeb, 0xfe);
    EXPECT(TL_FLOW_JUMP, TL_WHY_NONE, 0xf2, 0xe9, 1, 0, 0, 0); /* bnd */
    EXPECT(TL_FLOW_BRANCH, TL_WHY_NONE, 0x0f, 0x84, 1, 0, 0, 0);
    EXPECT(TL_FLOW_BRANCH, TL_WHY_NONE, 0xe0, 0x10); /* loopne */
    EXPECT(TL_FLOW_BRANCH, TL_WHY_NONE, 0x67, 0xe3, 0x10);
    EXPECT(TL_FLOW_CALL, TL_WHY_NONE, 0xe8, 0, 0, 0, 0);
    EXPECT(TL_FLOW_CALL, TL_WHY_NONE, 0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0); /* __tls_get_addr's */
    EXPECT(TL_FLOW_CALL_INDIRECT, TL_WHY_NONE, 0xff, 0xd0);
    EXPECT(TL_FLOW_JUMP_INDIRECT, TL_WHY_NONE, 0x3e, 0xff, 0xe0); /* notrack */
    EXPECT(TL_FLOW_RET, TL_WHY_NONE, 0xc3);
    EXPECT(TL_FLOW_RET, TL_WHY_NONE, 0xf3, 0xc3);
    EXPECT(TL_FLOW_RET, TL_WHY_NONE, 0xc2, 8, 0);
    EXPECT(TL_FLOW_RET, TL_WHY_NONE, 0x48, 0xcf); /* iretq */
    EXPECT(TL_FLOW_STOP, TL_WHY_NONE, 0x0f, 0x0b);
    EXPECT(TL_FLOW_STOP, TL_WHY_NONE, 0xf4);
}

static void what_cannot_be_copied_says_why(void **state)
{
    (void)state;
    EXPECT(TL_FLOW_STOP, TL_WHY_TRAP_INSN, 0xcc);
    EXPECT(TL_FLOW_STOP, TL_WHY_TRAP_INSN, 0xf1);
    EXPECT(TL_FLOW_STOP, TL_WHY_TRAP_INSN, 0xcd, 3);
    EXPECT(TL_FLOW_BRANCH, TL_WHY_NONE, 0xc7, 0xf8, 0, 0, 0, 0);
    EXPECT(TL_FLOW_RET, TL_WHY_FAR, 0xcb);
    EXPECT(TL_FLOW_RET, TL_WHY_FAR, 0x48, 0x0f, 0x07);  /* sysretq */
    EXPECT(TL_FLOW_NEXT, TL_WHY_FAR, 0x0f, 0x34);       /* sysenter */
    EXPECT(TL_FLOW_NEXT, TL_WHY_FAR, 0x0f, 0x01, 0xd7); /* enclu */
    EXPECT(TL_FLOW_JUMP_INDIRECT, TL_WHY_FAR, 0xff, 0x28);
    EXPECT(TL_FLOW_CALL_INDIRECT, TL_WHY_FAR, 0xff, 0x18);
    EXPECT(TL_FLOW_JUMP, TL_WHY_PREFIX, 0x66, 0xe9, 0, 0, 0, 0);
    EXPECT(TL_FLOW_CALL, TL_WHY_PREFIX, 0x48, 0x66, 0xe8, 0, 0, 0, 0); /* a REX before another prefix is none */
    EXPECT(TL_FLOW_BRANCH, TL_WHY_PREFIX, 0x66, 0x0f, 0x84, 0, 0, 0, 0);
    EXPECT(TL_FLOW_BRANCH, TL_WHY_PREFIX, 0x66, 0xe2, 0);
    EXPECT(TL_FLOW_CALL_INDIRECT, TL_WHY_PREFIX, 0x66, 0xff, 0xd0);
    EXPECT(TL_FLOW_RET, TL_WHY_NONE, 0x66, 0xc3); /* the copy has the prefix too */
}

static void targets_and_operands_are_absolute(void **state)
{
    (void)state;
    struct tl_insn insn;
    DECODE(&insn, 0xeb, 0xfe);
    assert_int_equal(insn.target, AT);
    DECODE(&insn, 0x0f, 0x85, 0xfa, 0xff, 0xff, 0xff);
    assert_int_equal(insn.target, AT);
    DECODE(&insn, 0x48, 0x8b, 0x05, 0x10, 0, 0, 0); /* mov rax, [rip + 16] */
    assert_true(insn.rip_relative);
    assert_int_equal(insn.memory, AT + 7 + 16);
    assert_int_equal(insn.displacement_at, 3);
    DECODE(&insn, 0xc7, 0x05, 0xfc, 0xff, 0xff, 0xff, 1, 2, 3,
           4); /* mov dword [rip - 4], imm32: rip is behind the imm */
    assert_int_equal(insn.memory, AT + 10 - 4);
    assert_int_equal(insn.displacement_at, 2);
    DECODE(&insn, 0x67, 0x8b, 0x05, 0, 0, 0, 0); /* mov eax, [eip] */
    assert_int_equal(insn.memory, (uint32_t)(AT + 7));
    DECODE(&insn, 0x62, 0xf1, 0x7c, 0x48, 0x10, 0x05, 4, 0, 0, 0); /* vmovups zmm0, [rip + 4]: not scaled */
    assert_int_equal(insn.memory, AT + 10 + 4);
    DECODE(&insn, 0x8b, 0x04, 0x25, 0, 0, 0, 0); /* mov eax, [0] by a SIB byte: absolute */
    assert_false(insn.rip_relative);
    DECODE(&insn, 0x0f, 0x20, 0x05); /* mov rbp, cr0: its mod bits are ignored */
    assert_false(insn.rip_relative);
    DECODE(&insn, 0x0f, 0x05);
    assert_true(insn.is_syscall);
}

static void bad_bytes_are_no_instruction(void **state)
{
    (void)state;
    struct tl_insn insn;
    const uint8_t call[] = {0xe8, 0, 0, 0, 0};
    for (size_t available = 0; available < sizeof call; available++)
        assert_int_equal(tl_insn_decode(call, available, AT, &insn), -EILSEQ);
    assert_int_equal(tl_insn_decode((const uint8_t[]){0x06}, 1, AT, &insn), -EILSEQ);
    uint8_t prefixes[16];
    memset(prefixes, 0x66, sizeof prefixes);
    prefixes[15] = 0x90;
    assert_int_equal(tl_insn_decode(prefixes, 16, AT, &insn), -EILSEQ);
    assert_int_equal(tl_insn_decode(prefixes + 1, 15, AT, &insn), 0);
}

static void indirect_targets_are_expressions(void **state)
{
    (void)state;
    struct tl_insn insn;
    struct tl_operand operand;
    DECODE(&insn, 0x41, 0xff, 0xd3); /* call r11 */
    assert_int_equal(tl_insn_indirect_target(&insn, &operand), 0);
    assert_false(operand.memory);
    assert_int_equal(operand.base, 11);
    DECODE(&insn, 0x42, 0xff, 0x64, 0xe3, 0xf0); /* jmp [rbx + r12 * 8 - 16] */
    assert_int_equal(tl_insn_indirect_target(&insn, &operand), 0);
    assert_true(operand.memory);
    assert_int_equal(operand.base, 3);
    assert_int_equal(operand.index, 12);
    assert_int_equal(operand.scale, 8);
    assert_int_equal(operand.displacement, -16);
    DECODE(&insn, 0xff, 0x25, 0x10, 0, 0, 0); /* jmp [rip + 16] */
    assert_int_equal(tl_insn_indirect_target(&insn, &operand), 0);
    assert_int_equal(operand.base, TL_NO_REG);
    assert_int_equal(operand.index, TL_NO_REG);
    assert_int_equal(operand.displacement, AT + 6 + 16);
    DECODE(&insn, 0xff, 0x24, 0xc5, 0, 0x10, 0, 0); /* jmp [rax * 8 + 0x1000] */
    assert_int_equal(tl_insn_indirect_target(&insn, &operand), 0);
    assert_int_equal(operand.base, TL_NO_REG);
    assert_int_equal(operand.index, 0);
    DECODE(&insn, 0x64, 0xff, 0x14, 0x25, 0x10, 0, 0, 0); /* call fs:[16] */
    assert_int_equal(tl_insn_indirect_target(&insn, &operand), -ENOTSUP);
    DECODE(&insn, 0xe8, 0, 0, 0, 0);
    assert_int_equal(tl_insn_indirect_target(&insn, &operand), -ENOTSUP);
    DECODE(&insn, 0x67, 0xff, 0x20); /* jmp [eax] */
    assert_int_equal(tl_insn_indirect_target(&insn, &operand), -ENOTSUP);
}

static void accesses_are_those_of_data(void **state)
{
    (void)state;
    struct tl_insn insn;
#define ACCESS(expected, ...)                                                                                          \
    DECODE(&insn, __VA_ARGS__);                                                                                        \
    assert_int_equal(tl_insn_access(&insn), expected)
    ACCESS(TL_INSN_WRITES, 0x89, 0x07);                                         /* mov %eax, (%rdi) */
    ACCESS(TL_INSN_READS, 0x8b, 0x07);                                          /* mov (%rdi), %eax */
    ACCESS(TL_INSN_READS | TL_INSN_WRITES, 0xff, 0x05, 0, 0, 0, 0);             /* incl 0(%rip) */
    ACCESS(TL_INSN_READS | TL_INSN_WRITES, 0xf0, 0x0f, 0xb1, 0x0f);             /* lock cmpxchg %ecx, (%rdi) */
    ACCESS(0, 0x48, 0x8d, 0x07);                                                /* lea (%rdi), %rax */
    ACCESS(0, 0x0f, 0x1f, 0x00);                                                /* nop (%rax) */
    ACCESS(0, 0x0f, 0x18, 0x08);                                                /* prefetcht0 (%rax) */
    ACCESS(0, 0x89, 0xc8);                                                      /* mov %ecx, %eax */
    ACCESS(TL_INSN_WRITES, 0x55);                                               /* push %rbp */
    ACCESS(TL_INSN_READS, 0xc3);                                                /* ret */
    ACCESS(TL_INSN_READS, 0xf3, 0xc3);                                          /* rep ret, as it is written */
    ACCESS(TL_INSN_WRITES, 0xe8, 0, 0, 0, 0);                                   /* call */
    ACCESS(TL_INSN_WRITES, 0xaa);                                               /* stos */
    ACCESS(TL_INSN_WRITES | TL_INSN_REPEATS, 0xf3, 0xaa);                       /* rep stos */
    ACCESS(TL_INSN_READS | TL_INSN_WRITES | TL_INSN_REPEATS, 0xf3, 0x48, 0xa5); /* rep movs */
    ACCESS(TL_INSN_READS | TL_INSN_REPEATS, 0xf3, 0xa6);                        /* repe cmps */
    ACCESS(TL_INSN_WRITES, 0x0f, 0x29, 0x07);                                   /* movaps %xmm0, (%rdi) */
#undef ACCESS
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transfers_are_sorted_by_where_they_go), cmocka_unit_test(what_cannot_be_copied_says_why),
        cmocka_unit_test(targets_and_operands_are_absolute),     cmocka_unit_test(bad_bytes_are_no_instruction),
        cmocka_unit_test(indirect_targets_are_expressions),      cmocka_unit_test(accesses_are_those_of_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
