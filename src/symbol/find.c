/* SPDX-License-Identifier: MIT
 *
 * Which modules a person means, and what to call an address.
 */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "symbol/object.h"

const char *tl_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* "libc" for libc.so.6 and libc-2.31.so, not for libcrypto.so.3. */
static bool is_library_name(const char *base, const char *name)
{
    size_t length = strlen(name);
    if (strncmp(base, name, length) != 0)
        return false;
    const char *rest = base + length;
    if (*rest == '-' && rest[1] >= '0' && rest[1] <= '9')
        rest += 1 + strspn(rest + 1, "0123456789.");
    if (rest != base + length && rest[-1] == '.')
        rest--; /* the dot of ".so" was taken for one of the version */
    return strncmp(rest, ".so", 3) == 0 && (rest[3] == '\0' || rest[3] == '.');
}

static bool matches_name(const struct tl_module *module, const char *name)
{
    const char *base = tl_base_name(module->path);
    const char *soname = module->object ? tl_object_soname(module->object) : NULL;
    if (strcmp(base, name) == 0 || is_library_name(base, name))
        return true;
    if (module->is_vdso && (strcmp(name, "vdso") == 0 || strcmp(name, "[vdso]") == 0))
        return true;
    return soname && (strcmp(soname, name) == 0 || is_library_name(soname, name));
}

static bool is_file(const struct tl_module *module, const struct stat *status)
{
    return module->object && module->object->device == status->st_dev && module->object->inode == status->st_ino;
}

/* The program, by a command's name: "python3" is found along PATH as the shell would, and may be a link to what runs.
 */
static bool is_command(const struct tl_module *module, const char *name)
{
    char path[4096];
    struct stat status;
    const char *directories = getenv("PATH");
    while (directories && *directories) {
        size_t length = strcspn(directories, ":");
        if (snprintf(path, sizeof path, "%.*s/%s", (int)length, directories, name) < (int)sizeof path &&
            stat(path, &status) == 0 && S_ISREG(status.st_mode))
            return is_file(module, &status);
        directories += length + (directories[length] == ':');
    }
    return false;
}

static int find_file(const struct tl_modules *modules, const char *path, size_t from)
{
    struct stat here, there;
    char inside[4096 + 64];
    bool have_here = stat(path, &here) == 0, have_there = false;
    if (path[0] == '/' &&
        snprintf(inside, sizeof inside, "/proc/%d/root%s", (int)modules->pid, path) < (int)sizeof inside)
        have_there = stat(inside, &there) == 0;
    for (size_t i = from; i < modules->count; i++) {
        const struct tl_module *module = &modules->modules[i];
        if (strcmp(module->path, path) == 0 || (have_here && is_file(module, &here)) ||
            (have_there && is_file(module, &there)))
            return (int)i;
    }
    return -ENOENT;
}

int tl_modules_find(const struct tl_modules *modules, const char *path, size_t from)
{
    if (!path)
        return from < modules->count ? (int)from : -ENOENT;
    bool is_glob = strpbrk(path, "*?[") && strcmp(path, "[vdso]") != 0, is_exe = strcmp(path, "EXE") == 0;
    if (!is_glob && strchr(path, '/'))
        return find_file(modules, path, from);
    bool known = false;
    for (size_t i = 0; i < modules->count; i++) {
        const struct tl_module *module = &modules->modules[i];
        bool matches = is_exe ? module->is_exe
                       : is_glob
                           ? fnmatch(path, module->path, 0) == 0 || fnmatch(path, tl_base_name(module->path), 0) == 0
                           : matches_name(module, path);
        known |= matches;
        if (matches && i >= from)
            return (int)i;
    }
    if (!known && !is_glob && !is_exe && from == 0 && modules->count && modules->modules[0].is_exe &&
        is_command(&modules->modules[0], path))
        return 0;
    return -ENOENT;
}

const struct tl_module *tl_modules_at(const struct tl_modules *modules, uint64_t addr)
{
    for (size_t i = 0; i < modules->count; i++)
        if (addr >= modules->modules[i].start && addr < modules->modules[i].end)
            return &modules->modules[i];
    return NULL;
}

void tl_modules_describe(const struct tl_modules *modules, uint64_t addr, char *text, size_t size)
{
    tl_modules_describe_within(modules, addr, addr, text, size);
}

void tl_modules_describe_within(const struct tl_modules *modules, uint64_t addr, uint64_t within, char *text,
                                size_t size)
{
    const struct tl_module *module = tl_modules_at(modules, within);
    const struct tl_function *function =
        module && module->object ? tl_object_function_at(module->object, within - module->bias) : NULL;
    if (function && function->name) {
        snprintf(text, size, "%s+0x%llx", function->name, (unsigned long long)(addr - module->bias - function->addr));
    } else if (module) {
        const char *base = tl_base_name(module->path);
        uint64_t from = module->object ? module->bias : module->start;
        snprintf(text, size, base[0] == '[' ? "%s+0x%llx" : "[%s]+0x%llx", base, (unsigned long long)(addr - from));
    } else {
        snprintf(text, size, "0x%llx", (unsigned long long)addr);
    }
}
