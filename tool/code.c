/* SPDX-License-Identifier: MIT */
#include "code.h"

#include "insn/insn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* KEPT_MAX: a program that makes code of its own has ever new addresses. */
enum { INLINED_MAX = 16, TEXT_MAX = 768, SLOTS = 1 << 12, KEPT_MAX = 1 << 15 };

struct kept {
    struct kept *next;
    uint64_t addr;
    bool is_return;
    struct code_frame frame;
    char *symbol, *function, *source;
    const char *texts[INLINED_MAX], *names[INLINED_MAX];
};

struct known_accessor {
    struct tl_access access;
    uint64_t rip, ip;
};

struct code {
    struct tl_unwinder *unwinder;
    struct kept *slots[SLOTS];
    size_t count;
    struct known_accessor accessors[SLOTS];
    const char *stack[CODE_STACK_MAX];
};

static size_t slot_of(uint64_t addr)
{
    return (addr * 0x9e3779b97f4a7c15u) >> 52;
}

struct code *code_open(struct tl_unwinder *unwinder)
{
    struct code *code = calloc(1, sizeof *code);
    if (code)
        code->unwinder = unwinder;
    return code;
}

static void free_kept(struct kept *kept)
{
    for (size_t i = 0; i < kept->frame.line_count; i++) {
        free((void *)(uintptr_t)kept->texts[i]);
        free((void *)(uintptr_t)kept->names[i]);
    }
    free(kept->symbol);
    free(kept->function);
    free(kept->source);
    free(kept);
}

static void forget(struct code *code)
{
    for (size_t i = 0; i < SLOTS; i++)
        while (code->slots[i]) {
            struct kept *kept = code->slots[i];
            code->slots[i] = kept->next;
            free_kept(kept);
        }
    code->count = 0;
}

void code_close(struct code *code)
{
    if (code)
        forget(code);
    free(code);
}

void code_begin(struct code *code)
{
    if (code->count > KEPT_MAX)
        forget(code);
}

/* NULL: out of memory. */
static char *text_of(const char *name, const char *mark, const struct tl_source_line *where)
{
    char *text;
    int length = where && where->line ? asprintf(&text, "%s%s (%s:%u)", name, mark, where->file, where->line)
                                      : asprintf(&text, "%s%s", name, mark);
    return length < 0 ? NULL : text;
}

/* A frame's line of a stack: NAME (FILE:LINE), and NAME alone. */
static bool add_line(struct kept *kept, const char *name, const char *mark, const struct tl_source_line *where)
{
    size_t i = kept->frame.line_count++; /* to be freed, whatever it is */
    kept->names[i] = text_of(name, mark, NULL);
    kept->texts[i] = text_of(name, mark, where);
    return kept->names[i] && kept->texts[i];
}

/* Of the lines at one place the innermost that is not of a system header, which would tell little; or the innermost. */
static const struct tl_source_line *telling_line(const struct tl_source_line *lines, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (lines[i].line && !lines[i].is_system)
            return &lines[i];
    return count && lines[0].line ? &lines[0] : NULL;
}

static bool fill(struct code *code, struct kept *kept, const struct tl_frame *frame)
{
    struct tl_source_line lines[INLINED_MAX];
    char symbol[TEXT_MAX], source[192];
    size_t count = tl_unwinder_lines(code->unwinder, frame, lines, INLINED_MAX);
    tl_unwinder_describe(code->unwinder, frame, symbol, sizeof symbol);
    kept->symbol = strdup(symbol);
    char *offset = strrchr(symbol, '+');
    bool has_name = offset && symbol[0] != '[';
    const struct tl_source_line *line = telling_line(lines, count);
    if (line && *line->function)
        kept->function = strdup(line->function);
    else
        kept->function = has_name ? strndup(symbol, (size_t)(offset - symbol)) : strdup(symbol);
    bool good = kept->symbol && kept->function;
    if (line) {
        snprintf(source, sizeof source, "%s:%u", line->file, line->line);
        kept->source = strdup(source);
        good &= kept->source != NULL;
    }
    for (size_t i = 0; good && i + 1 < count; i++)
        good = add_line(kept, lines[i].function, " [inlined]", &lines[i]);
    good = good && add_line(kept, symbol, "", count ? &lines[count - 1] : NULL);
    kept->frame.symbol = kept->symbol;
    kept->frame.function = kept->function;
    kept->frame.source = kept->source;
    kept->frame.texts = kept->texts;
    kept->frame.names = kept->names;
    return good;
}

const struct code_frame *code_frame(struct code *code, const struct tl_frame *frame)
{
    struct kept **slot = &code->slots[slot_of(frame->addr)];
    for (struct kept *kept = *slot; kept; kept = kept->next)
        if (kept->addr == frame->addr && kept->is_return == frame->is_return)
            return &kept->frame;
    struct kept *kept = calloc(1, sizeof *kept);
    if (!kept)
        return NULL;
    if (!fill(code, kept, frame)) {
        free_kept(kept);
        return NULL;
    }
    kept->addr = frame->addr;
    kept->is_return = frame->is_return;
    kept->next = *slot;
    *slot = kept;
    code->count++;
    return &kept->frame;
}

const char *const *code_stack(struct code *code, const struct tl_frame *frames, size_t count, bool with_sources,
                              size_t *line_count)
{
    *line_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct code_frame *frame = code_frame(code, &frames[i]);
        for (size_t k = 0; frame && k < frame->line_count && *line_count < CODE_STACK_MAX; k++)
            code->stack[(*line_count)++] = with_sources ? frame->texts[k] : frame->names[k];
    }
    return code->stack;
}

uint64_t code_accessor(struct code *code, uint64_t rip, const struct tl_access *access)
{
    struct known_accessor *known = &code->accessors[slot_of(rip)];
    if (known->rip == rip && known->access.kinds == access->kinds && known->access.addr == access->addr &&
        known->access.length == access->length)
        return known->ip;
    uint64_t ip = tl_unwinder_accessor(code->unwinder, rip, access);
    /* What depends on the value (calls), and what may be known better later, is asked for again. */
    if (rip - ip - 1 < TL_INSN_MAX)
        *known = (struct known_accessor){.access = *access, .rip = rip, .ip = ip};
    return ip;
}
