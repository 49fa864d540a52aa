/* SPDX-License-Identifier: MIT
 *
 * Each of these is tried, on ourselves or a child of ours, and nothing stays.
 */
#include "doctor.h"

#include "host/remote/remote.h"
#include "hwbp/registers.h"
#include "symbol/kernel.h"

#include <errno.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

/* perf events have sigtrap since then. */
enum { MAJOR = 5, MINOR = 13, PARANOID_USUAL = 2 };
static const uint64_t kernel_address = 0xffffffff81000000;

void check_kernel(struct finding *finding)
{
    struct utsname name;
    int major = 0, minor = 0;
    finding->name = "kernel";
    uname(&name);
    sscanf(name.release, "%d.%d", &major, &minor);
    finding->ok = major > MAJOR || (major == MAJOR && minor >= MINOR);
    snprintf(finding->found, sizeof finding->found, "%s %.100s", name.sysname, name.release);
    snprintf(finding->change, sizeof finding->change, "Linux %d.%d or later (watches by perf events)", MAJOR, MINOR);
}

static int open_event(struct perf_event_attr *attr, pid_t pid, int cpu)
{
    attr->type = PERF_TYPE_BREAKPOINT;
    attr->size = sizeof *attr;
    attr->bp_type = HW_BREAKPOINT_W;
    attr->bp_len = 8;
    attr->sample_period = 1;
    attr->disabled = 1;
    return (int)syscall(SYS_perf_event_open, attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

/* What somebody has to do about perf_event_open's errno. */
static void advise(struct finding *finding, int error)
{
    long paranoid = tl_kernel_setting("kernel/perf_event_paranoid", PARANOID_USUAL);
    const char *change = "a kernel with perf events, on a processor with debug registers";
    if ((error == EACCES || error == EPERM) && paranoid > PARANOID_USUAL && geteuid() != 0)
        change = "sysctl kernel.perf_event_paranoid=2";
    else if (error == EACCES || error == EPERM || error == ENOSYS)
        change = "allow perf_event_open (seccomp profile of the container)";
    else if (error == EINVAL)
        change = "Linux 5.13 or later";
    else if (error == ENOSPC)
        change = "end the debuggers and perf events that hold the debug registers";
    snprintf(finding->change, sizeof finding->change, "%s", change);
}

void check_watch_events(struct finding *finding)
{
    static uint64_t variable;
    struct perf_event_attr attr = {.bp_addr = (uintptr_t)&variable,
                                   .exclude_kernel = 1,
                                   .exclude_hv = 1,
                                   .inherit = 1,
                                   .inherit_thread = 1,
                                   .remove_on_exec = 1,
                                   .sigtrap = 1};
    finding->name = "watch events";
    int fd = open_event(&attr, 0, -1), error = errno;
    finding->ok = fd >= 0;
    snprintf(finding->found, sizeof finding->found, "perf events with sigtrap: %s; kernel.perf_event_paranoid is %ld",
             finding->ok ? "work" : strerror(error), tl_kernel_setting("kernel/perf_event_paranoid", -1));
    advise(finding, error);
    if (finding->ok)
        close(fd);
}

/* Registers that take a watch of `variable` in a stopped child. */
static unsigned count_registers(pid_t child, uint64_t variable)
{
    struct tl_debug_control control = {.exact = false};
    unsigned count = 0;
    for (unsigned i = 0; i < TL_HWBP_REGISTERS; i++) {
        uint64_t dr7;
        control.registers[i] = (struct tl_debug_register){.local = true, .access = TL_ACCESS_W, .length = 8};
        if (tl_dr7_encode(&control, &dr7) ||
            ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg) + i * sizeof(long), variable) ||
            ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg) + 7 * sizeof(long), dr7))
            break;
        count++;
    }
    return count;
}

void check_debug_registers(struct finding *finding)
{
    static uint64_t variable;
    unsigned count = 0;
    int status;
    finding->name = "debug registers";
    pid_t child = fork();
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0) == 0)
            raise(SIGSTOP);
        _exit(0);
    }
    if (child > 0 && waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
        count = count_registers(child, (uintptr_t)&variable);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    finding->ok = count == TL_HWBP_REGISTERS;
    snprintf(finding->found, sizeof finding->found, "%u of %d are free: that many watches at a time", count,
             TL_HWBP_REGISTERS);
    snprintf(finding->change, sizeof finding->change, "%s",
             count
                 ? "end the perf events that hold the others on whole processors"
                 : "run where ptrace is allowed (container: --cap-add SYS_PTRACE), on a machine with debug registers");
}

void check_kernel_watches(struct finding *finding)
{
    struct perf_event_attr attr = {.bp_addr = kernel_address};
    finding->name = "watch -a";
    int fd = open_event(&attr, -1, 0), error = errno;
    finding->ok = fd >= 0;
    snprintf(finding->found, sizeof finding->found, "kernel memory on whole processors: %s",
             finding->ok ? "can be watched" : strerror(error));
    if (geteuid() != 0)
        snprintf(finding->change, sizeof finding->change, "run as root");
    else
        advise(finding, error);
    if (finding->ok)
        close(fd);
}

void check_kernel_names(struct finding *finding)
{
    struct tl_kernel_symbols *symbols;
    struct tl_error error;
    uint64_t addr;
    finding->name = "kernel names";
    int result = tl_kernel_symbols_read(NULL, &symbols, &error);
    finding->ok = !result && !tl_kernel_find(symbols, "jiffies", &addr, NULL);
    snprintf(finding->found, sizeof finding->found, "%.150s",
             finding->ok ? "functions and variables are listed"
             : result    ? error.text
                         : "functions only are listed");
    snprintf(finding->change, sizeof finding->change, "%s",
             result == -EPERM && geteuid() != 0 ? "run as root"
             : result == -EPERM                 ? "sysctl kernel.kptr_restrict=0"
                                                : "a kernel with CONFIG_KALLSYMS_ALL");
    if (!result)
        tl_kernel_symbols_free(symbols);
}

void check_uprobes(struct finding *finding)
{
    finding->name = "kernel uprobes";
    finding->ok = access("/sys/bus/event_source/devices/uprobe/type", R_OK) == 0;
    snprintf(finding->found, sizeof finding->found, "%s; trapline itself does without",
             finding->ok ? "there are uprobes" : "there are none");
    snprintf(finding->change, sizeof finding->change, "a kernel with CONFIG_UPROBE_EVENTS");
}
