/* SPDX-License-Identifier: MIT
 *
 * Calls with known arguments, registers, stack and memory. What must be seen stands in values.py.
 *
 *     show          one call of everything
 *     numbers N     number(i, "item<i>") for i from -N to N
 *     pages         look() at strings and numbers next to memory that is not there
 */
#include "obey.h"

#include <stdint.h>
#include <sys/mman.h>

#define KEEP __asm__ volatile("" ::: "memory")

struct record {
    uint8_t tiny;
    int16_t small;
    int32_t medium;
    uint64_t big;
    char name[16];
    const char *text;
    struct record *next;
    uint32_t bits;
};

uint64_t global_number = 0x123456789abcdef0;
char global_text[] = "text of the program";
const char *global_pointer = global_text;

long eight(long a, long b, long c, long d, long e, long f, long g, long h);
PROBED long eight(long a, long b, long c, long d, long e, long f, long g, long h)
{
    KEEP;
    return a + b + c + d + e + f + g + h;
}

long take(const struct record *record);
PROBED long take(const struct record *record)
{
    KEEP;
    return record->medium;
}

long look(const void *pointer);
PROBED long look(const void *pointer)
{
    KEEP;
    return pointer != NULL;
}

long number(long value, const char *text);
PROBED long number(long value, const char *text)
{
    KEEP;
    return value + (text != NULL);
}

/* An exit is one byte, and the jump in its place takes the bytes behind it for its distance. These lead to where
 * nothing ever is, whatever the compiler. */
#define EXIT "ret\n endbr64\n"

/* 7 above zero, -2000000000 below, and at zero -5, known only after a call. */
int classify(long value);
/* Odd values times ten; even ones are passed on to number(), doubled. */
long tail(long value, const char *text);
__asm__(".pushsection .text\n"
        ".globl classify\n .type classify, @function\n"
        "classify:\n"
        "  mov $7, %eax\n"
        "  test %rdi, %rdi\n"
        "  jg 3f\n"
        "  jne 2f\n"
        "  mov $-7, %rdi\n"
        "  mov $1, %esi\n"
        "  sub $8, %rsp\n"
        "  call number\n"
        "  add $8, %rsp\n"
        "  inc %eax\n"
        "  " EXIT "2: mov $-2000000000, %eax\n"
        "  " EXIT "3: " EXIT ".size classify, . - classify\n"
        ".globl tail\n .type tail, @function\n"
        "tail:\n"
        "  imul $10, %rdi, %rax\n"
        "  test $1, %edi\n"
        "  jne 1f\n"
        "  add %rdi, %rdi\n"
        "  jmp number\n"
        "1: " EXIT ".size tail, . - tail\n"
        ".popsection\n");

/* Every register has a value of its own when registers_known is reached. */
long with_registers(void);
long registers_known(void);
__asm__(".pushsection .text\n"
        ".globl with_registers\n .type with_registers, @function\n"
        "with_registers:\n"
        "  push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "  pushq $0x5678\n pushq $0x1234\n"
        "  movabs $0xa1a2a3a4a5a6a7a8, %rax\n movabs $0xb1b2b3b4b5b6b7b8, %rbx\n"
        "  movabs $0xc1c2c3c4c5c6c7c8, %rcx\n movabs $0xd1d2d3d4d5d6d7d8, %rdx\n"
        "  movabs $0x5152535455565758, %rsi\n movabs $0x6162636465666768, %rdi\n"
        "  movabs $0x7172737475767778, %rbp\n"
        "  movabs $0x0801020304050607, %r8\n movabs $0x0901020304050607, %r9\n"
        "  movabs $0x1001020304050607, %r10\n movabs $0x1101020304050607, %r11\n"
        "  movabs $0x1201020304050607, %r12\n movabs $0x1301020304050607, %r13\n"
        "  movabs $0x1401020304050607, %r14\n movabs $0x1501020304050607, %r15\n"
        "  stc\n"
        "  call registers_known\n"
        "  sbb %rcx, %rcx\n" /* the carry flag was set and still is */
        "  add %rcx, %rax\n"
        "  add $16, %rsp\n"
        "  pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "  ret\n"
        ".size with_registers, . - with_registers\n"
        ".globl registers_known\n .type registers_known, @function\n"
        "registers_known:\n"
        "  mov $100, %eax\n"
        "  " EXIT ".size registers_known, . - registers_known\n"
        ".popsection\n");

static void show(void)
{
    static const char linked_text[] = "linked";
    struct record second = {.name = "second", .text = linked_text, .medium = 99};
    struct record first = {.tiny = 200,
                           .small = -300,
                           .medium = -70000,
                           .big = 0xfedcba9876543210,
                           .name = "first \"one\"\n",
                           .text = "pointed to",
                           .next = &second,
                           .bits = 0xabcd1234};
    eight(1, -2, 3, -4, 5, -6, 7, -8);
    take(&first);
    classify(5);
    classify(0);
    classify(-5);
    tail(3, "odd");
    tail(4, "even");
    printf("%ld", with_registers());
}

static void pages(void)
{
    enum { PAGE = 4096 };
    char *memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(memory + PAGE, PAGE, PROT_NONE);
    memset(memory, 'x', PAGE);
    strcpy(memory + PAGE - 6, "ended");
    look(memory + PAGE - 6); /* a string that ends where the memory does */
    look(memory + PAGE - 1); /* only its end */
    look(memory + PAGE - 8); /* the last 8 bytes that can be read */
    look(memory + PAGE - 7); /* one less */
    memory[PAGE - 1] = 'd';
    look(memory + PAGE - 6); /* a string that does not end */
    look(memory + PAGE);
    look(NULL);
    look((void *)1);
    look((void *)0x800000000000);
    look((void *)0x8000000000000000);
    look((void *)-1);
    look((void *)0xffffffffff600000);
    memset(memory, 'y', PAGE - 1); /* longer than any event */
    memory[PAGE - 1] = 0;
    look(memory);
    memory[3] = (char)0xff;
    memory[4] = 0;
    look(memory); /* not UTF-8 */
    memory[0] = 0;
    look(memory);
    munmap(memory, 2 * PAGE);
}

static void carry(char **words, int count)
{
    if (!strcmp(words[0], "show")) {
        show();
    } else if (!strcmp(words[0], "pages")) {
        pages();
    } else if (!strcmp(words[0], "numbers") && count > 1) {
        for (long i = -atol(words[1]); i <= atol(words[1]); i++) {
            char text[32];
            snprintf(text, sizeof text, "item%ld", i);
            number(i, text);
        }
    }
}

int main(int argc, char **argv)
{
    return obey(argc, argv, carry);
}
