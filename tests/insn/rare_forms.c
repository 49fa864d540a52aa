/* SPDX-License-Identifier: MIT */
#include "rare_forms.h"

#include <string.h>

static const struct {
    uint8_t length;
    uint8_t bytes[TL_INSN_MAX];
} rare[] = {
#define ROW(...)                                                                                                       \
    {                                                                                                                  \
        sizeof(const uint8_t[]){__VA_ARGS__},                                                                          \
        {                                                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }
    ROW(0xe0, 0x10),                                     /* loopne */
    ROW(0xe1, 0x10),                                     /* loope */
    ROW(0xe2, 0x10),                                     /* loop */
    ROW(0x67, 0xe2, 0x10),                               /* loop, on ecx */
    ROW(0xe3, 0x10),                                     /* jrcxz */
    ROW(0x67, 0xe3, 0x10),                               /* jecxz */
    ROW(0xe8, 0, 0, 0, 0),                               /* call */
    ROW(0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0),             /* the call of __tls_get_addr */
    ROW(0xf2, 0xe8, 0, 0, 0, 0),                         /* bnd call */
    ROW(0xf2, 0xe9, 0, 0, 0, 0),                         /* bnd jmp */
    ROW(0x2e, 0x0f, 0x84, 0, 0, 0, 0),                   /* je with a hint */
    ROW(0xff, 0xd4),                                     /* call rsp */
    ROW(0xff, 0xe4),                                     /* jmp rsp */
    ROW(0x41, 0xff, 0xd4),                               /* call r12 */
    ROW(0x3e, 0xff, 0xd0),                               /* notrack call rax */
    ROW(0x3e, 0xff, 0x13),                               /* notrack call [rbx] */
    ROW(0xff, 0x14, 0x24),                               /* call [rsp] */
    ROW(0xff, 0x54, 0x24, 0xf8),                         /* call [rsp - 8]: the slot that it pushes to */
    ROW(0xff, 0x54, 0x24, 0xf0),                         /* call [rsp - 16] */
    ROW(0x64, 0xff, 0x14, 0x25, 0x10, 0, 0, 0),          /* call fs:[16] */
    ROW(0x65, 0xff, 0x13),                               /* call gs:[rbx] */
    ROW(0x67, 0xff, 0x13),                               /* call [ebx] */
    ROW(0x41, 0xf2, 0xff, 0x13),                         /* bnd call [rbx], with a REX that is none */
    ROW(0x48, 0xff, 0x15, 0, 0, 0, 0),                   /* rex.W call [rip] */
    ROW(0x64, 0xff, 0x15, 0, 0, 0, 0),                   /* call fs:[rip] */
    ROW(0x64, 0xff, 0x25, 0, 0, 0, 0),                   /* jmp fs:[rip] */
    ROW(0x67, 0xff, 0x15, 0, 0, 0, 0),                   /* call [eip] */
    ROW(0x67, 0xff, 0x25, 0, 0, 0, 0),                   /* jmp [eip] */
    ROW(0x67, 0x8b, 0x05, 0, 0, 0, 0),                   /* mov eax, [eip] */
    ROW(0x67, 0x48, 0x8d, 0x05, 0, 0, 0, 0),             /* lea rax, [eip] */
    ROW(0x66, 0x8d, 0x05, 0, 0, 0, 0),                   /* lea ax, [rip] */
    ROW(0x44, 0x8d, 0x0d, 0, 0, 0, 0),                   /* lea r9d, [rip] */
    ROW(0x4c, 0x8d, 0x3d, 0, 0, 0, 0),                   /* lea r15, [rip] */
    ROW(0x48, 0x8d, 0x25, 0, 0, 0, 0),                   /* lea rsp, [rip] */
    ROW(0xff, 0x35, 0, 0, 0, 0),                         /* push [rip] */
    ROW(0x8f, 0x05, 0, 0, 0, 0),                         /* pop [rip] */
    ROW(0x8a, 0x25, 0, 0, 0, 0),                         /* mov ah, [rip] */
    ROW(0xf7, 0x25, 0, 0, 0, 0),                         /* mul dword [rip] */
    ROW(0xf7, 0x3d, 0, 0, 0, 0),                         /* idiv dword [rip] */
    ROW(0x48, 0x0f, 0xc7, 0x0d, 0, 0, 0, 0),             /* cmpxchg16b [rip] */
    ROW(0xf0, 0x48, 0x0f, 0xb1, 0x0d, 0, 0, 0, 0),       /* lock cmpxchg [rip], rcx */
    ROW(0xc4, 0xe2, 0xfb, 0xf6, 0x0d, 0, 0, 0, 0),       /* mulx rcx, rax, [rip] */
    ROW(0x66, 0x0f, 0x3a, 0x61, 0x0d, 0, 0, 0, 0, 0x0c), /* pcmpestri xmm1, [rip], 12 */
    ROW(0x66, 0x0f, 0x3a, 0x60, 0x0d, 0, 0, 0, 0, 0x40), /* pcmpestrm */
    ROW(0x66, 0x0f, 0x38, 0x10, 0x0d, 0, 0, 0, 0),       /* pblendvb xmm1, [rip], xmm0 */
    ROW(0xc5, 0xf8, 0x10, 0x05, 0, 0, 0, 0),             /* vmovups xmm0, [rip]: VEX of two bytes */
    ROW(0xc4, 0x41, 0x78, 0x10, 0x05, 0, 0, 0, 0),       /* … of three, its extension bits all set */
    ROW(0x62, 0x61, 0x7c, 0x48, 0x10, 0x05, 0, 0, 0, 0), /* vmovups zmm24, [rip] */
    ROW(0x62, 0x91, 0x7c, 0x48, 0x10, 0x05, 0, 0, 0, 0), /* vmovups zmm0, [rip], needless bits for base and index */
    ROW(0x62, 0xf1, 0x74, 0x59, 0x58, 0x05, 0, 0, 0, 0), /* vaddps zmm0{k1}, zmm1, dword [rip] to all */
    ROW(0x62, 0xf1, 0x7c, 0x49, 0x11, 0x05, 0, 0, 0, 0), /* vmovups [rip]{k1}, zmm0 */
    ROW(0x4f, 0x8b, 0x05, 0, 0, 0, 0),                   /* mov r8, [rip], needless REX bits */
    ROW(0x0f, 0xae, 0x05, 0, 0, 0, 0),                   /* fxsave [rip] */
    ROW(0x48, 0x0f, 0xae, 0x0d, 0, 0, 0, 0),             /* fxrstor64 [rip] */
    ROW(0x48, 0x0f, 0xc7, 0x25, 0, 0, 0, 0),             /* xsavec64 [rip] */
    ROW(0x0f, 0xae, 0x2d, 0, 0, 0, 0),                   /* xrstor [rip] */
    ROW(0xd9, 0x35, 0, 0, 0, 0),                         /* fnstenv [rip] */
    ROW(0xdb, 0x2d, 0, 0, 0, 0),                         /* fld tbyte [rip] */
    ROW(0x0f, 0x1f, 0x05, 0, 0, 0, 0),                   /* nop [rip] */
    ROW(0x0f, 0xb9, 0x05, 0, 0, 0, 0),                   /* ud1 eax, [rip] */
    ROW(0x0f, 0x18, 0x0d, 0, 0, 0, 0),                   /* prefetcht0 [rip] */
    ROW(0x66, 0x0f, 0x38, 0xf8, 0x05, 0, 0, 0, 0),       /* movdir64b rax, [rip] */
    ROW(0x66, 0x0f, 0xf7, 0xc1),                         /* maskmovdqu */
    ROW(0x0f, 0xf7, 0xc1),                               /* maskmovq */
    ROW(0xd7),                                           /* xlat */
    ROW(0xc8, 0x20, 0, 2),                               /* enter 32, 2 */
    ROW(0x9c),                                           /* pushf */
    ROW(0x66, 0x9d),                                     /* popf, 16 bits */
    ROW(0x9d),                                           /* popf */
    ROW(0x48, 0xcf),                                     /* iretq */
    ROW(0x66, 0xc3),                                     /* ret with a prefix */
    ROW(0xf2, 0xc3),                                     /* bnd ret */
    ROW(0xc2, 0x10, 0),                                  /* ret 16 */
    ROW(0x54),                                           /* push rsp */
    ROW(0x5c),                                           /* pop rsp */
    ROW(0x8f, 0x44, 0x24, 8),                            /* pop [rsp + 8]: rsp as it is afterwards */
    ROW(0x66, 0x66, 0x0f, 0x05),                         /* syscall with prefixes */
    ROW(0xcc),                                           /* int3 */
    ROW(0xf1),                                           /* int1 */
    ROW(0xcd, 0x03),                                     /* int 3 */
    ROW(0xc7, 0xf8, 0x10, 0, 0, 0),                      /* xbegin */
    ROW(0xcd, 0x80),                                     /* int 0x80 */
    ROW(0xcd, 0x04),                                     /* int 4: returns behind itself */
    ROW(0xcd, 0x29),                                     /* int 0x29: faults */
    ROW(0xf3, 0xa4),                                     /* rep movsb */
    ROW(0x67, 0xf3, 0xa4),                               /* rep movsb on edi, esi, ecx */
    ROW(0xf3, 0x64, 0xa4),                               /* rep movsb from fs */
    ROW(0xf2, 0xae),                                     /* repne scasb */
    ROW(0x8e, 0xd0),                                     /* mov ss, eax */
    ROW(0x0f, 0x01, 0xd0),                               /* xgetbv */
    ROW(0x0f, 0xa2),                                     /* cpuid */
    ROW(0x0f, 0x31),                                     /* rdtsc */
    ROW(0x0f, 0x01, 0xf9),                               /* rdtscp */
    ROW(0xf3, 0x0f, 0xc7, 0xf8),                         /* rdpid */
    ROW(0xf3, 0x48, 0x0f, 0xae, 0xd0),                   /* wrfsbase */
    ROW(0xf3, 0x48, 0x0f, 0xae, 0xd8),                   /* wrgsbase */
    ROW(0xfa),                                           /* cli */
    ROW(0x0f, 0x22, 0xd8),                               /* mov cr3, rax */
    ROW(0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0),
    ROW(0x66, 0x66, 0x66, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0), /* 15 bytes */
    ROW(0x48, 0xa1, 0, 0, 0x01, 0, 0, 0x20, 0, 0),                               /* mov rax, [absolute 64] */
#undef ROW
};

void rare_forms_add(struct form_set *set)
{
    for (size_t i = 0; i < sizeof rare / sizeof *rare; i++)
        forms_add(set, rare[i].bytes, rare[i].length, (uint16_t)(i + 1));
}
