/* SPDX-License-Identifier: MIT
 *
 * What a hit reads where the broker is armed: without the kernel, at any address, and as before in a thread that could
 * not take the fault.
 */
#include "broker_world.h"

#include "program.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

/* The kernel knows no such process: whatever is read is read directly. */
static void use_no_kernel(void)
{
    program_world.area->pid = INT32_MAX;
}

static void use_the_kernel(void)
{
    program_world.area->pid = (uint32_t)getpid();
}

static void begin(void)
{
    program_setup(NULL);
    program_world.area->broker = (uint64_t)(uintptr_t)broker_here();
    __asm__("movq %%fs:0, %0" : "=r"(program_fs_base));
    use_no_kernel();
}

static bool loads(const void *from, unsigned size, uint64_t expected)
{
    const struct tl_operation code[] = {IMM((uintptr_t)from), OP(LOAD, .a = (uint8_t)size), OP(STORE, .a = 5), OP(END)};
    return program_run(code, 4) && program_hit.slots == 1u << 5 && program_hit.lane->slots[5] == expected;
}

static bool load_faults(uint64_t from, unsigned size)
{
    const struct tl_operation code[] = {IMM(from), OP(LOAD, .a = (uint8_t)size), OP(STORE, .a = 5), OP(END)};
    return program_run(code, 4) && program_hit.slots == 1ull << 37;
}

/* The text that is read; NULL: a fault. */
static bool reads_text(const void *from, const char *expected)
{
    const struct tl_operation code[] = {IMM((uintptr_t)from), OP(STRING, .a = 5, .imm = 200), OP(END)};
    if (!program_run(code, 3))
        return false;
    if (!expected)
        return program_hit.slots == 1ull << 37;
    uint64_t place = program_hit.lane->slots[5];
    return program_hit.slots == 1u << 5 && (uint32_t)place == strlen(expected) &&
           memcmp(program_hit.lane->scratch + (place >> 32), expected, strlen(expected)) == 0;
}

/* A page that ends where nothing is. */
static char *edge(void)
{
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(pages, 'x', PAGE);
    mprotect(pages + PAGE, PAGE, PROT_NONE);
    return pages + PAGE;
}

static void everything(void)
{
    static const char hello[] = "hello, this is longer than one piece of what is read";
    uint64_t value = 0x8877665544332211;
    char *end = edge();
    begin();
    CHECK(loads(&value, 8, value));
    CHECK(loads((char *)&value + 1, 2, 0x3322));
    CHECK(loads((char *)&value + 3, 1, 0x44));
    char two[16];
    memcpy(two + 5, &value, 8);
    CHECK(loads(two + 5, 8, value)); /* across two words */
    CHECK(loads(end - 8, 8, 0x7878787878787878));
    CHECK(load_faults((uint64_t)(uintptr_t)end - 7, 8));
    CHECK(load_faults((uint64_t)(uintptr_t)end, 1));
    CHECK(load_faults(0, 8));
    CHECK(load_faults(UINT64_MAX, 8));
    CHECK(load_faults(0x8000000000000000, 4));
    CHECK(load_faults(0x8000000000000001, 1));
    CHECK(reads_text(hello, hello));
    CHECK(reads_text("", ""));
    CHECK(reads_text(end - 10, NULL));
    strcpy(end - 10, "123456789");
    CHECK(reads_text(end - 10, "123456789"));
    CHECK(reads_text(NULL, NULL));
}

static void anything_may_be_read_without_the_kernel(void **unused)
{
    (void)unused;
    assert_int_equal(broker_run(MODE_INT3, everything), 0);
}

/* Alignment checks on: nothing is read across a word at once. */
static void aligned(void)
{
    static uint64_t words[3] = {1, 2, 3};
    begin();
    CHECK(loads(words, 8, 1));
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; orl $0x40000, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::
                         : "cc", "memory");
    uint64_t got = 0;
    bool copied = tl_fault_copy(&got, (uint64_t)(uintptr_t)words + 3, 8) == 8;
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; andl $~0x40000, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::
                         : "cc", "memory");
    CHECK(copied && got == 2ull << 40);
}

static void alignment_checks_do_no_harm(void **unused)
{
    (void)unused;
    assert_int_equal(broker_run(MODE_INT3, aligned), 0);
}

static void usr1(int number, struct tl_siginfo *info, struct tl_context *context)
{
    static uint64_t value = 6;
    (void)number;
    (void)info;
    (void)context;
    use_the_kernel();
    CHECK(load_faults(0, 8)); /* SIGSEGV is blocked here: this would have been the end */
    CHECK(loads(&value, 8, 6));
}

/* A thread that blocks SIGSEGV would die of its fault, not take it. */
static void blocked(void)
{
    uint64_t value = 5, none = 0;
    begin();
    CHECK(loads(&value, 8, 5));
    mask(0, TL_SIGNAL_BIT(TL_SIGSEGV));
    CHECK(load_faults((uint64_t)(uintptr_t)&value, 8)); /* as the kernel is out of use */
    use_the_kernel();
    CHECK(loads(&value, 8, 5) && load_faults(0, 8));
    mask(1, TL_SIGNAL_BIT(TL_SIGSEGV));
    use_no_kernel();
    CHECK(loads(&value, 8, 5) && load_faults(0, 8));
    mask(2, TL_SIGNAL_BIT(TL_SIGBUS));
    CHECK(!loads(&value, 8, 5));
    mask(2, 0);
    CHECK(loads(&value, 8, 5));
    /* In handlers with such a mask, and in those of a signal that comes while another mask is in force. */
    handle(10, usr1, TL_SA_SIGINFO, TL_SIGNAL_BIT(TL_SIGSEGV));
    sys(SYS_kill, (uint64_t)getpid(), 10ul);
    use_no_kernel();
    CHECK(loads(&value, 8, 5));
    handle(10, usr1, TL_SA_SIGINFO, 0);
    mask(0, TL_SIGNAL_BIT(10));
    sys(SYS_kill, (uint64_t)getpid(), 10ul);
    none = TL_SIGNAL_BIT(TL_SIGSEGV);
    CHECK(sys(SYS_rt_sigsuspend, &none, 8ul) == -4);
    use_no_kernel();
    CHECK(loads(&value, 8, 5));
}

static void a_thread_that_blocks_the_fault_asks_the_kernel(void **unused)
{
    (void)unused;
    assert_int_equal(broker_run(MODE_INT3, blocked), 0);
}

/* A fork child reads its own memory, also before the broker has had to notice that there is one; a child that shares
 * the memory asks the kernel, and its parent is none the wiser. */
static int sharing_child(void *value)
{
    CHECK(!loads(value, 8, 5));
    return 0;
}

static void children(void)
{
    static uint64_t value = 5, stack[4096];
    begin();
    pid_t child = (pid_t)syscall(SYS_fork);
    if (child == 0) {
        CHECK(loads(&value, 8, 5) && load_faults(0, 8));
        syscall(SYS_exit_group, 7);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
    child = clone(sharing_child, stack + 4096, CLONE_VM | CLONE_VFORK | SIGCHLD, &value);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(loads(&value, 8, 5));
}

static void children_read_as_they_may(void **unused)
{
    (void)unused;
    assert_int_equal(broker_run(MODE_INT3, children), 0);
}

/* Where no system call may be made, a thread of which nothing is known does not load; one that is known does. */
static void forbidden(void)
{
    uint64_t value = 5;
    begin();
    program_world.area->flags |= TL_HIT_NO_MEMORY;
    CHECK(!loads(&value, 8, 5));
    program_world.area->flags &= ~(uint32_t)TL_HIT_NO_MEMORY;
    CHECK(loads(&value, 8, 5));
    program_world.area->flags |= TL_HIT_NO_MEMORY;
    CHECK(loads(&value, 8, 5) && load_faults(0, 8));
}

static void no_syscall_where_none_may_be_made(void **unused)
{
    (void)unused;
    assert_int_equal(broker_run(MODE_INT3, forbidden), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anything_may_be_read_without_the_kernel),
        cmocka_unit_test(alignment_checks_do_no_harm),
        cmocka_unit_test(a_thread_that_blocks_the_fault_asks_the_kernel),
        cmocka_unit_test(children_read_as_they_may),
        cmocka_unit_test(no_syscall_where_none_may_be_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
