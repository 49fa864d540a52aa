/* SPDX-License-Identifier: MIT
 *
 * The files whose code a process has mapped.
 *
 * A module is opened as the process sees it, which is not always what its path means to us: the process may live in
 * another mount name space or a chroot, and the file may have been deleted or replaced since. /proc/PID/map_files is
 * the mapped file itself, but wants privilege; else the path is looked up below /proc/PID/root, and the inode has to be
 * the mapped one. The load bias follows from where the file's offsets were mapped and the program headers, mapping by
 * mapping, so that a text that was split into several mappings (mprotect) is still one module, and a file that is
 * loaded twice is two.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/texts.h"
#include "symbol/maps.h"
#include "symbol/object.h"

enum { PAGE = 4096, VDSO_MAX = 1 << 20 };

static bool is_same_inode(const struct tl_object *object, const struct mapping *mapping)
{
    return object->device == makedev(mapping->device_major, mapping->device_minor) && object->inode == mapping->inode;
}

/* Whether the file that was opened by its name is the one that is mapped. A file system in layers shows other device
 * numbers in maps than in stat, so there only a deletion can be seen. */
static bool may_be_mapped_file(const struct tl_object *object, const struct mapping *mapping)
{
    static const char deleted[] = " (deleted)";
    size_t length = strlen(mapping->path), tail = sizeof deleted - 1;
    if (object->device == makedev(mapping->device_major, mapping->device_minor))
        return object->inode == mapping->inode;
    return length < tail || strcmp(mapping->path + length - tail, deleted) != 0;
}

static int open_checked(const struct object_source *source, const struct mapping *mapping,
                        bool (*check)(const struct tl_object *, const struct mapping *), struct tl_object **object,
                        struct tl_error *error)
{
    int result = object_open(source, object, error);
    if (result == 0 && !check(*object, mapping)) {
        tl_object_close(*object);
        *object = NULL;
        return -ENOENT;
    }
    return result;
}

static int open_file(pid_t pid, const struct mapping *mapping, struct tl_object **object, struct tl_error *error)
{
    char root[64], path[4096 + 64];
    snprintf(root, sizeof root, "/proc/%d/root", (int)pid);
    snprintf(path, sizeof path, "/proc/%d/map_files/%llx-%llx", (int)pid, (unsigned long long)mapping->start,
             (unsigned long long)mapping->end);
    struct object_source source = {.path = path, .display = mapping->path, .root = root};
    int result = object_open(&source, object, error);
    if (result != -EPERM && result != -EACCES && result != -ENOENT)
        return result;
    snprintf(path, sizeof path, "%s%s", root, mapping->path);
    result = open_checked(&source, mapping, may_be_mapped_file, object, error);
    if (result == -ENOENT) { /* the program itself can be reached even when it has no name any more */
        snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
        result = open_checked(&source, mapping, is_same_inode, object, error);
    }
    if (result == -ENOENT)
        return tl_fail(error, -ENOENT,
                       "%s: deleted or replaced since process %d loaded it; as root it could still be read",
                       mapping->path, (int)pid);
    return result;
}

static int open_vdso(pid_t pid, const struct mapping *mapping, struct tl_object **object, struct tl_error *error)
{
    char path[64];
    uint64_t size = mapping->end - mapping->start;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC), result;
    uint8_t *bytes = size <= VDSO_MAX ? malloc(size) : NULL;
    if (fd < 0 && errno == EMFILE)
        result = tl_fail(error, -EMFILE, TL_NO_DESCRIPTORS);
    else if (fd < 0 || !bytes || pread(fd, bytes, size, (off_t)mapping->start) != (ssize_t)size)
        result = tl_fail(error, -EACCES, "[vdso]: the memory of process %d cannot be read", (int)pid);
    else
        result = tl_object_open_memory(bytes, size, "[vdso]", object, error);
    free(bytes);
    if (fd >= 0)
        close(fd);
    return result;
}

/* Where the file's address 0 would be. */
static bool find_bias(const struct tl_object *object, const struct mapping *mapping, uint64_t *bias)
{
    /* Under READ_IMPLIES_EXEC every segment is mapped executable, so those that only may be come second. */
    for (int executable = 1; executable >= 0; executable--) {
        for (size_t i = 0; i < object->segment_count; i++) {
            const struct segment *s = &object->segments[i];
            if (s->executable != executable || mapping->offset < (s->offset & ~(uint64_t)(PAGE - 1)) ||
                mapping->offset >= s->offset + s->size)
                continue;
            *bias = mapping->start - mapping->offset + s->offset - s->addr;
            return true;
        }
    }
    return false;
}

static int fill_module(pid_t pid, const struct mapping *mapping, struct tl_module *module)
{
    *module = (struct tl_module){.start = mapping->start, .end = mapping->end, .is_vdso = mapping->path[0] == '['};
    module->path = strdup(mapping->path);
    if (!module->path)
        return tl_fail(&module->refused, -ENOMEM, "out of memory");
    if (mapping->shared) {
        tl_fail(&module->refused, -ENOTSUP, "%s: a shared mapping: a change of the code would reach the file",
                mapping->path);
        return 0;
    }
    int result = module->is_vdso ? open_vdso(pid, mapping, &module->object, &module->refused)
                                 : open_file(pid, mapping, &module->object, &module->refused);
    if (result == -EMFILE || result == -ENOMEM) /* no fault of the file's */
        return result;
    if (result == 0 && !find_bias(module->object, mapping, &module->bias)) {
        tl_fail(&module->refused, -EINVAL, "%s: what is mapped at 0x%llx is no code of it", mapping->path,
                (unsigned long long)mapping->start);
        tl_object_close(module->object);
        module->object = NULL;
    }
    if (module->object) {
        const struct segment *first = module->object->segments, *last = first + module->object->segment_count - 1;
        module->start = (module->bias + first->addr) & ~(uint64_t)(PAGE - 1);
        module->end = (module->bias + last->addr + last->memory_size + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    }
    return 0;
}

static bool same_file(const struct mapping *a, const struct mapping *b)
{
    return a->inode == b->inode && a->device_major == b->device_major && a->device_minor == b->device_minor &&
           strcmp(a->path, b->path) == 0;
}

/* Whether a mapping belongs to a module that is known already; `first` is the mapping that the module was made from. */
static bool belongs(const struct tl_module *module, const struct mapping *first, const struct mapping *mapping)
{
    if (!same_file(first, mapping))
        return false;
    uint64_t bias;
    if (!module->object) /* of what cannot be opened, nothing says how far it reaches */
        return mapping->start == module->end;
    return mapping->start >= module->start && mapping->start < module->end &&
           find_bias(module->object, mapping, &bias) && bias == module->bias;
}

/* Which module is the program, and which its interpreter: by what the kernel told the process. */
static void mark_program(struct tl_modules *modules)
{
    char path[64];
    uint64_t vector[128] = {0}, entry = 0, base = 0;
    snprintf(path, sizeof path, "/proc/%d/auxv", (int)modules->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t size = read(fd, vector, sizeof vector - 16);
    close(fd);
    for (ssize_t i = 0; i + 16 <= size && vector[i / 8] != AT_NULL; i += 16) {
        if (vector[i / 8] == AT_ENTRY)
            entry = vector[i / 8 + 1];
        if (vector[i / 8] == AT_BASE)
            base = vector[i / 8 + 1];
    }
    for (size_t i = 0; i < modules->count; i++) {
        struct tl_module *module = &modules->modules[i];
        module->is_exe = module->object ? module->bias + module->object->header.e_entry == entry
                                        : entry >= module->start && entry < module->end;
        module->is_interpreter = base && module->start == base;
    }
}

static int program_first(const void *left, const void *right)
{
    const struct tl_module *a = left, *b = right;
    if (a->is_exe != b->is_exe)
        return a->is_exe ? -1 : 1;
    return a->start < b->start ? -1 : a->start > b->start;
}

/* Code out of a file, or what the kernel gives to each process; not our own trampolines, of which there may be
 * thousands. */
static bool is_module(const struct mapping *mapping)
{
    return mapping->executable && strcmp(mapping->path, "/memfd:trapline (deleted)") != 0 &&
           (mapping->path[0] == '/' || strcmp(mapping->path, "[vdso]") == 0);
}

int tl_modules_read(pid_t pid, struct tl_modules *modules, struct tl_error *error)
{
    struct maps maps;
    *modules = (struct tl_modules){.pid = pid};
    int result = maps_read(pid, &maps, error);
    if (result < 0)
        return result;
    modules->modules = calloc(maps.count, sizeof *modules->modules);
    const struct mapping **firsts = calloc(maps.count, sizeof *firsts);
    if (!modules->modules || !firsts)
        result = tl_fail(error, -ENOMEM, "out of memory");
    for (size_t i = 0; result == 0 && i < maps.count; i++) {
        const struct mapping *mapping = &maps.mappings[i];
        if (!is_module(mapping))
            continue;
        size_t m = 0;
        while (m < modules->count && !belongs(&modules->modules[m], firsts[m], mapping))
            m++;
        if (m < modules->count) {
            if (mapping->end > modules->modules[m].end)
                modules->modules[m].end = mapping->end;
            continue;
        }
        firsts[m] = mapping;
        modules->count++;
        result = fill_module(pid, mapping, &modules->modules[m]);
        if (result < 0)
            tl_fail(error, result, "%s", modules->modules[m].refused.text);
    }
    free(firsts);
    maps_free(&maps);
    if (result < 0) {
        tl_modules_free(modules);
        return result;
    }
    mark_program(modules);
    qsort(modules->modules, modules->count, sizeof *modules->modules, program_first);
    return 0;
}

void tl_modules_free(struct tl_modules *modules)
{
    for (size_t i = 0; i < modules->count; i++) {
        free(modules->modules[i].path);
        tl_object_close(modules->modules[i].object);
    }
    free(modules->modules);
    *modules = (struct tl_modules){0};
}
