/* SPDX-License-Identifier: MIT
 *
 * Golden files: specs of variables, and what becomes of them in the programs named in the file's line "programs:". All
 * these programs have to give the same: their types, or the complaint, and the values that the variables have in the
 * file, as text and as JSON. A line that begins with "> " is a spec.
 *
 *     variable_golden_test DIRECTORY             compare
 *     variable_golden_test --rebase DIRECTORY    write the outcomes anew, those of the first program (meson compile
 *                                                rebase-variables)
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "../golden.h"
#include "spec/spec.h"
#include "spec/watch.h"
#include "support.h"
#include "symbol/object.h"

enum { TEXT = 2000 };

static struct tl_module module;
static struct tl_modules modules = {.modules = &module, .count = 1};

/* "variables-stripped+root" has its debug file below root. */
static bool open_program(const char *name)
{
    char path[4096];
    size_t length = strcspn(name, "+");
    snprintf(path, sizeof path, "%.*s", (int)length, name);
    struct object_source source = {.path = strdup(fixture(path)),
                                   .root = name[length] ? fixture(name + length + 1) : NULL};
    struct tl_error error = {0};
    module = (struct tl_module){.path = (char *)source.path, .is_exe = true, .end = UINT64_MAX};
    if (object_open(&source, &module.object, &error) == 0)
        return true;
    fprintf(stderr, "%s: %s\n", name, error.text);
    return false;
}

static void close_program(void)
{
    tl_object_close(module.object);
    free(module.path);
}

static bool name_of(void *context, uint64_t addr, char *text, size_t size)
{
    return tl_modules_name(context, addr, text, size);
}

/* Things are at another address in each program: only what they are called is the same. */
static void print_text(FILE *out, const char *text)
{
    for (size_t digits; *text; text += digits) {
        digits = text[0] != '0' || text[1] != 'x' ? 1 : 2 + strspn(text + 2, "0123456789abcdef");
        if (digits > 6 && text[2] != '0')
            fprintf(out, "0x…");
        else
            fwrite(text, 1, digits, out);
    }
    fputc('\n', out);
}

static void print_value(FILE *out, const struct tl_variable *variable)
{
    const struct tl_value_names names = {name_of, &modules};
    char text[TEXT];
    uint8_t *bytes = calloc(1, variable->size + 1);
    /* What thread-local variables begin with stands where PT_TLS says. */
    uint64_t addr = variable->file_addr;
    for (size_t i = 0; variable->is_thread_local && i < module.object->program_header_count; i++)
        if (module.object->program_headers[i].p_type == PT_TLS)
            addr += module.object->program_headers[i].p_vaddr;
    const void *content = object_data(module.object, addr, variable->size);
    if (content)
        memcpy(bytes, content, variable->size);
    const struct tl_datatype *type = variable->type ? variable->type : tl_datatype_of_bytes(variable->size);
    tl_value_text(type, bytes, variable->size, &names, text, sizeof text);
    print_text(out, text);
    tl_value_json(type, bytes, variable->size, text, sizeof text);
    print_text(out, text);
    if (type != variable->type)
        tl_datatype_free((struct tl_datatype *)type);
    free(bytes);
}

/* Compilers call one type by several names. */
static const char *usual(const char *name)
{
    static const char *const names[][2] = {{"long int", "long"},
                                           {"short int", "short"},
                                           {"long unsigned int", "unsigned long"},
                                           {"short unsigned int", "unsigned short"},
                                           {"long long unsigned int", "unsigned long long"},
                                           {"short int [2][3]", "short [2][3]"},
                                           {"short int [3]", "short [3]"},
                                           {"_Bool", "bool"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i][0]))
            return names[i][1];
    return name;
}

static void print_outcome(FILE *out, const char *spec)
{
    struct tl_watch *watch;
    struct tl_variable variable;
    struct tl_error error = {.column = -1};
    char text[TEXT];
    int result = tl_watch_parse(spec, &watch, &error);
    if (!result) {
        result = tl_modules_variable(&modules, &watch->symbol, &variable, &error);
        tl_watch_free(watch);
    }
    if (result) {
        tl_spec_complain(spec, &error, text, sizeof text);
        fprintf(out, "%s%s", tl_errno_name(-result), strchr(text, '\n'));
        return;
    }
    fprintf(out, "%s, %llu bytes%s%s\n", variable.type ? usual(variable.type->name) : "no type",
            (unsigned long long)variable.size, variable.is_thread_local ? ", thread-local" : "",
            variable.is_function ? ", a function" : "");
    if (!variable.is_function)
        print_value(out, &variable);
    tl_variable_free(&variable);
}

static int check(const char *path, bool rebase)
{
    char *was = NULL, *programs = NULL;
    size_t size = 0;
    int failed = 0;
    FILE *in = fopen(path, "r");
    if (!in || getdelim(&was, &size, '\0', in) < 0 || !(programs = strstr(was, "programs: "))) {
        perror(path);
        return 1;
    }
    fclose(in);
    programs = strndup(programs + strlen("programs: "), strcspn(programs + strlen("programs: "), "\n"));
    for (char *program = strtok(programs, " "); program; program = strtok(NULL, " ")) {
        if (!open_program(program)) {
            failed++;
            continue;
        }
        char *is = golden_made(was, print_outcome);
        close_program();
        if (strcmp(was, is) != 0 && rebase) {
            FILE *out = fopen(path, "w");
            failed += !out || fputs(is, out) < 0 || fclose(out);
            printf("%s: rebased to %s\n", path, program);
            free(was);
            was = is;
            rebase = false; /* the others have to agree */
            continue;
        }
        if (strcmp(was, is) != 0) {
            char who[256];
            snprintf(who, sizeof who, "%s: ", program);
            golden_show_difference(path, who, was, is);
            failed++;
        }
        free(is);
    }
    free(programs);
    free(was);
    return failed;
}

int main(int argc, char **argv)
{
    bool rebase = argc == 3 && !strcmp(argv[1], "--rebase");
    int failed = 0, files = 0;
    if (argc != 2 + rebase) {
        fprintf(stderr, "usage: variable_golden_test [--rebase] DIRECTORY\n");
        return 2;
    }
    DIR *directory = opendir(argv[1 + rebase]);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        const char *dot = strrchr(entry->d_name, '.');
        char path[4096];
        if (!dot || strcmp(dot, ".txt"))
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1 + rebase], entry->d_name);
        failed += check(path, rebase);
        files++;
    }
    if (directory)
        closedir(directory);
    printf("%d files, %d differ\n", files, failed);
    return failed || !files;
}
