/* SPDX-License-Identifier: MIT */
#include "fetch_model.h"

#include <stdlib.h>
#include <string.h>

enum { BREAKPOINT = 0xcc, THREADS = 2 };
enum form { FORM_BEFORE, FORM_AFTER };

/* A thread: between two instructions (`fetched` 0), or after some bytes of the one at `site`. */
struct thread {
    uint8_t site, form, fetched;
};

struct state {
    uint8_t op;      /* the next one */
    uint8_t written; /* which bytes of it have been written already */
    struct thread threads[THREADS];
};

struct search {
    const struct model *model;
    uint8_t *seen; /* a bit a state */
    uint32_t *queue;
    size_t head, tail;
    const char *wrong;
};

enum { CODE_BITS = 6 + 5 + THREADS * 7 };

static uint32_t encode(const struct state *s)
{
    uint32_t code = s->op | (uint32_t)s->written << 6;
    for (int i = 0; i < THREADS; i++) {
        const struct thread *t = &s->threads[i];
        uint32_t thread = t->fetched ? t->site | (uint32_t)t->form << 2 | (uint32_t)t->fetched << 3 : 0;
        code |= thread << (11 + 7 * i);
    }
    return code;
}

static struct state decode(uint32_t code)
{
    struct state s = {.op = code & 63, .written = code >> 6 & 31};
    for (int i = 0; i < THREADS; i++) {
        uint32_t thread = code >> (11 + 7 * i) & 127;
        s.threads[i] = (struct thread){thread & 3, thread >> 2 & 1, (uint8_t)(thread >> 3)};
    }
    return s;
}

static void reach(struct search *search, const struct state *s)
{
    uint32_t code = encode(s);
    if (search->seen[code / 8] & 1u << code % 8)
        return;
    search->seen[code / 8] |= (uint8_t)(1u << code % 8);
    search->queue[search->tail++] = code;
}

/* The values that a fetch of the byte at `at` may give. Returns how many (there may be doubles). */
static size_t visible(const struct model *m, const struct state *s, unsigned at, uint8_t *values)
{
    size_t count = 0;
    values[count++] = m->before[at];
    for (size_t i = 0; i <= s->op && i < m->op_count; i++) {
        const struct model_op *op = &m->ops[i];
        if (op->length == 0) {
            if (i < s->op) {
                values[0] = values[count - 1];
                count = 1;
            }
        } else if (at - op->at < op->length && (i < s->op || s->written >> (at - op->at) & 1)) {
            values[count++] = op->bytes[at - op->at];
        }
    }
    return count;
}

static void first_byte(struct search *search, const struct state *s, int thread)
{
    const struct model *m = search->model;
    uint8_t values[MODEL_OPS + 1];
    for (size_t site = 0; site < m->site_count; site++) {
        unsigned at = m->sites[site].at;
        for (size_t n = visible(m, s, at, values); n-- > 0;) {
            struct state next = *s;
            if (values[n] == BREAKPOINT)
                continue; /* the broker leads on: to the next instruction, which is where we are */
            if (values[n] != m->before[at] && values[n] != m->after[at]) {
                search->wrong = "a first byte that nobody wrote";
                return;
            }
            uint8_t form = values[n] == m->before[at] ? FORM_BEFORE : FORM_AFTER;
            unsigned length = form == FORM_BEFORE ? m->sites[site].before_length : m->sites[site].after_length;
            if (length > 1)
                next.threads[thread] = (struct thread){(uint8_t)site, form, 1};
            reach(search, &next);
        }
    }
}

static void next_byte(struct search *search, const struct state *s, int thread)
{
    const struct model *m = search->model;
    const struct thread *t = &s->threads[thread];
    unsigned at = m->sites[t->site].at + t->fetched;
    unsigned length = t->form == FORM_BEFORE ? m->sites[t->site].before_length : m->sites[t->site].after_length;
    uint8_t values[MODEL_OPS + 1], right = t->form == FORM_BEFORE ? m->before[at] : m->after[at];
    for (size_t n = visible(m, s, at, values); n-- > 0;) {
        if (values[n] != right) {
            search->wrong = "a torn instruction";
            return;
        }
    }
    struct state next = *s;
    next.threads[thread].fetched = t->fetched + 1u < length ? t->fetched + 1u : 0;
    reach(search, &next);
}

static void change(struct search *search, const struct state *s)
{
    const struct model *m = search->model;
    const struct model_op *op = &m->ops[s->op];
    struct state next = *s;
    if (op->length == 0) {
        next.op++;
        for (int i = 0; i < THREADS; i++)
            next.threads[i].fetched = 0;
        reach(search, &next);
        return;
    }
    for (unsigned i = 0; i < op->length; i++) {
        if (s->written >> i & 1)
            continue;
        next = *s;
        next.written |= (uint8_t)(1u << i);
        if (next.written == (1u << op->length) - 1) {
            next.written = 0;
            next.op++;
        }
        reach(search, &next);
    }
}

static void finished(struct search *search, const struct state *s)
{
    const struct model *m = search->model;
    uint8_t values[MODEL_OPS + 1];
    for (unsigned at = 0; at < MODEL_BYTES; at++) {
        uint8_t right = m->taken_back ? m->before[at] : m->after[at];
        for (size_t n = visible(m, s, at, values); n-- > 0;) {
            if (values[n] != right)
                search->wrong = "finished, but a thread may still see something else";
        }
    }
}

const char *model_explore(const struct model *model, size_t *states)
{
    /* Large, and little of it used: kept from search to search, what was used being cleared. */
    static struct search kept;
    if (!kept.seen) {
        kept.seen = calloc(1, (1u << CODE_BITS) / 8);
        kept.queue = malloc((1u << CODE_BITS) * sizeof *kept.queue);
    }
    struct search search = {.model = model, .seen = kept.seen, .queue = kept.queue};
    if (!search.seen || !search.queue || model->op_count >= MODEL_OPS)
        abort();
    reach(&search, &(struct state){0});
    while (search.head < search.tail && !search.wrong) {
        struct state s = decode(search.queue[search.head++]);
        if (s.op < model->op_count)
            change(&search, &s);
        else
            finished(&search, &s);
        for (int i = 0; i < THREADS && !search.wrong; i++) {
            if (s.threads[i].fetched == 0)
                first_byte(&search, &s, i);
            else
                next_byte(&search, &s, i);
        }
    }
    *states = search.tail;
    for (size_t i = 0; i < search.tail; i++)
        search.seen[search.queue[i] / 8] = 0;
    return search.wrong;
}
