/* SPDX-License-Identifier: MIT
 *
 * trapline doctor: what works here, and for each "no" the one setting that would change it.
 */
#include "commands.h"
#include "doctor.h"
#include "options.h"

#include "host/remote/remote.h"
#include "trace/line.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE (1 << 1)
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

/* Can we attach to a process of our own that is not our child's child: what -p needs. Tried, not deduced. */
static void check_ptrace(struct finding *finding)
{
    finding->name = "attach";
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    long result = child > 0 ? ptrace(PTRACE_SEIZE, child, 0, 0) : -1;
    int error = errno;
    finding->ok = result == 0;
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    long scope = tl_kernel_setting("kernel/yama/ptrace_scope", -1);
    bool yama = scope >= 0;
    if (!finding->ok) {
        snprintf(finding->found, sizeof finding->found, "ptrace: %s", strerror(error));
        snprintf(finding->change, sizeof finding->change,
                 "run where ptrace is allowed (container: --cap-add SYS_PTRACE)");
    } else if (yama && scope > 0 && geteuid() != 0) {
        finding->ok = false;
        snprintf(finding->found, sizeof finding->found,
                 "only commands that trapline starts: kernel.yama.ptrace_scope is %ld", scope);
        snprintf(finding->change, sizeof finding->change, "sysctl kernel.yama.ptrace_scope=0");
    } else {
        snprintf(finding->found, sizeof finding->found, "ptrace works%s", yama ? "" : ", no Yama");
    }
}

static void check_code_memory(struct finding *finding)
{
    finding->name = "code memory";
    int fd = memfd_create("trapline", MFD_CLOEXEC | MFD_EXEC);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("trapline", MFD_CLOEXEC);
    void *code = MAP_FAILED;
    if (fd >= 0 && !ftruncate(fd, 4096))
        code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    finding->ok = code != MAP_FAILED;
    snprintf(finding->found, sizeof finding->found, "%s",
             finding->ok ? "memfd can be mapped executable" : strerror(errno));
    snprintf(finding->change, sizeof finding->change, "sysctl vm.memfd_noexec=0");
    if (code != MAP_FAILED)
        munmap(code, 4096);
    if (fd >= 0)
        close(fd);
}

static void check_memory_reads(struct finding *finding)
{
    finding->name = "memory fetches";
    int from = 1, to = 0;
    struct iovec local = {&to, sizeof to}, remote = {&from, sizeof from};
    finding->ok = process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)sizeof to;
    snprintf(finding->found, sizeof finding->found, "process_vm_readv: %s", finding->ok ? "works" : strerror(errno));
    snprintf(finding->change, sizeof finding->change, "allow process_vm_readv (seccomp profile of the container)");
}

static void check_mappings(struct finding *finding)
{
    finding->name = "mappings";
    long limit = tl_kernel_setting("vm/max_map_count", 0);
    finding->ok = limit >= 65530;
    snprintf(finding->found, sizeof finding->found, "vm.max_map_count is %ld", limit);
    snprintf(finding->change, sizeof finding->change, "sysctl vm.max_map_count=65530");
}

static bool cpu_flag(const char *flag)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    while (file && !found && getline(&line, &size, file) > 0)
        if (!strncmp(line, "flags", 5)) {
            char word[64];
            snprintf(word, sizeof word, " %s ", flag);
            line[strcspn(line, "\n")] = ' ';
            found = strstr(line, word) != NULL;
            break;
        }
    free(line);
    if (file)
        fclose(file);
    return found;
}

static void check_processor(struct finding *finding)
{
    finding->name = "fast thread lookup";
    finding->ok = (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE) != 0;
    snprintf(finding->found, sizeof finding->found, "rdfsbase %s; rdpid %s", finding->ok ? "works" : "does not work",
             cpu_flag("rdpid") ? "works" : "does not work");
    snprintf(finding->change, sizeof finding->change, "a kernel of 5.9 or later, not booted with nofsgsbase");
}

static void check_clock(struct finding *finding)
{
    finding->name = "time stamps";
    finding->ok = cpu_flag("constant_tsc") && cpu_flag("nonstop_tsc");
    snprintf(finding->found, sizeof finding->found, "the time stamp counter %s",
             finding->ok ? "is constant and does not stop" : "may change its rate or stop: times are approximate");
    snprintf(finding->change, sizeof finding->change,
             "a processor (or virtual machine) with an invariant time stamp counter");
}

int cmd_doctor(int argc, char **argv)
{
    struct options options;
    int status = options_read(argc, argv, OPTIONS_DOCTOR, &options);
    if (status)
        return status < 0 ? EXIT_FINE : status;
    if (options.rest_count) {
        complain("doctor takes no arguments");
        return EXIT_USAGE;
    }
    static void (*const checks[])(struct finding *) = {check_kernel,         check_ptrace,       check_code_memory,
                                                       check_memory_reads,   check_mappings,     check_processor,
                                                       check_clock,          check_watch_events, check_debug_registers,
                                                       check_kernel_watches, check_kernel_names, check_uprobes};
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        struct finding finding = {0};
        checks[i](&finding);
        if (!options.json) {
            printf("%-18s %-3s  %s\n", finding.name, finding.ok ? "yes" : "no", finding.found);
            if (!finding.ok)
                printf("%-18s      to change that: %s\n", "", finding.change);
            continue;
        }
        struct tl_line line;
        tl_line_begin(&line, stdout);
        tl_line_text(&line, "{\"type\":\"check\",\"name\":");
        tl_line_json_string(&line, finding.name, strlen(finding.name));
        tl_line_text(&line, finding.ok ? ",\"ok\":true,\"found\":" : ",\"ok\":false,\"found\":");
        tl_line_json_string(&line, finding.found, strlen(finding.found));
        if (!finding.ok) {
            tl_line_text(&line, ",\"change\":");
            tl_line_json_string(&line, finding.change, strlen(finding.change));
        }
        tl_line_text(&line, "}");
        tl_line_end(&line);
    }
    options_free(&options);
    return EXIT_FINE;
}
