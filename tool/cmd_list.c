/* SPDX-License-Identifier: MIT
 *
 * trapline list: the functions of a file, or of all files mapped into a process.
 */
#include "commands.h"
#include "options.h"

#include "symbol/symbol.h"
#include "trace/line.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

struct listing {
    const char *glob; /* or NULL */
    bool json;
    size_t listed;
};

static const char *const kinds[] = {[TL_FUNCTION] = "function",
                                    [TL_FUNCTION_IFUNC] = "ifunc",
                                    [TL_FUNCTION_UNNAMED] = "unnamed",
                                    [TL_FUNCTION_PART] = "part"};

static void list_object(struct listing *listing, const struct tl_object *object, const char *path, uint64_t bias)
{
    size_t count;
    const struct tl_function *functions = tl_object_functions(object, &count);
    for (size_t i = 0; i < count; i++) {
        const struct tl_function *function = &functions[i];
        if (listing->glob && (!function->name || fnmatch(listing->glob, function->name, 0)))
            continue;
        listing->listed++;
        if (!listing->json) {
            printf("%#018llx %8llu %-8s %s\n", (unsigned long long)(function->addr + bias),
                   (unsigned long long)function->size, kinds[function->kind], function->name ? function->name : "-");
            continue;
        }
        struct tl_line line;
        tl_line_begin(&line, stdout);
        tl_line_text(&line, "{\"type\":\"function\",\"addr\":\"");
        tl_line_hex(&line, function->addr + bias);
        tl_line_text(&line, "\",\"size\":");
        tl_line_unsigned(&line, function->size);
        tl_line_text(&line, ",\"kind\":\"");
        tl_line_text(&line, kinds[function->kind]);
        tl_line_text(&line, "\",\"name\":");
        if (function->name)
            tl_line_json_string(&line, function->name, strlen(function->name));
        else
            tl_line_text(&line, "null");
        tl_line_text(&line, ",\"module\":");
        tl_line_json_string(&line, path, strlen(path));
        tl_line_text(&line, "}");
        tl_line_end(&line);
    }
}

static int list_process(struct listing *listing, pid_t pid)
{
    struct tl_modules modules;
    struct tl_error error;
    if (tl_modules_read(pid, &modules, &error)) {
        complain("%s", error.text);
        return EXIT_FAILED;
    }
    for (size_t i = 0; i < modules.count; i++) {
        const struct tl_module *module = &modules.modules[i];
        if (!module->object) {
            if (!module->is_vdso)
                complain("%s", module->refused.text);
            continue;
        }
        size_t before = listing->listed;
        if (!listing->json && !listing->glob)
            printf("%s:\n", module->path);
        list_object(listing, module->object, module->path, module->bias);
        if (!listing->json && listing->glob && listing->listed != before)
            printf("  in %s\n", module->path);
    }
    tl_modules_free(&modules);
    return EXIT_FINE;
}

static int list_file(struct listing *listing, const char *path)
{
    struct tl_object *object;
    struct tl_error error;
    if (tl_object_open(path, NULL, &object, &error)) {
        complain("%s", error.text);
        return EXIT_FAILED;
    }
    list_object(listing, object, path, 0);
    tl_object_close(object);
    return EXIT_FINE;
}

int cmd_list(int argc, char **argv)
{
    struct options options;
    int status = options_read(argc, argv, OPTIONS_LIST, &options);
    if (status)
        return status < 0 ? EXIT_FINE : status;
    size_t named = options.pid ? 0 : 1;
    if (options.rest_count < named || options.rest_count > named + 1) {
        complain("list takes a file or -p PID, and at most one glob");
        return EXIT_USAGE;
    }
    struct listing listing = {.json = options.json, .glob = options.rest_count > named ? options.rest[named] : NULL};
    if (listing.glob && !strcmp(listing.glob, "*")) /* what has no name too, as in a spec */
        listing.glob = NULL;
    status = options.pid ? list_process(&listing, options.pid) : list_file(&listing, options.rest[0]);
    if (status == EXIT_FINE && !listing.listed) {
        if (listing.glob)
            complain("no function is like \"%s\"", listing.glob);
        else
            complain("no functions are known in %s", options.pid ? "this process" : options.rest[0]);
        status = EXIT_FAILED;
    }
    options_free(&options);
    return status;
}
