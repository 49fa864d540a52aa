/* SPDX-License-Identifier: MIT
 *
 * Watch specs: what the text means, and what is said of mistakes.
 */
#include "kit.h"
#include "spec/watch.h"

static void print_symbol(FILE *out, const struct tl_variable_name *symbol)
{
    if (symbol->scope)
        fprintf(out, "%s | ", symbol->scope);
    if (symbol->file)
        fprintf(out, "%s | ", symbol->file);
    fprintf(out, "%s", symbol->name);
    for (size_t i = 0; i < symbol->step_count; i++) {
        const struct tl_step *step = &symbol->steps[i];
        if (step->kind == TL_STEP_MEMBER)
            fprintf(out, " .%s@%zu", step->name, step->column);
        else
            fprintf(out, " [%llu]@%zu", (unsigned long long)step->index, step->column);
    }
}

static void print_watch(FILE *out, const struct tl_watch *watch)
{
    if (watch->is_address)
        fprintf(out, "0x%llx", (unsigned long long)watch->addr);
    else
        print_symbol(out, &watch->symbol);
    if (watch->offset)
        fprintf(out, " +%llu", (unsigned long long)watch->offset);
    if (watch->length)
        fprintf(out, " /%llu", (unsigned long long)watch->length);
    fprintf(out, " %s%s%s", watch->access & TL_WATCH_R ? "r" : "", watch->access & TL_WATCH_W ? "w" : "",
            watch->access & TL_WATCH_X ? "x" : "");
    if (watch->filter_column)
        fprintf(out, " if %s", watch->text + watch->filter_column);
}

static void means(const char *text, const char *expected)
{
    struct tl_watch *watch;
    struct tl_error error = {0};
    char found[400] = "";
    if (tl_watch_parse(text, &watch, &error)) {
        tl_spec_complain(text, &error, found, sizeof found);
        fail_msg("%s", found);
    }
    FILE *out = fmemopen(found, sizeof found, "w");
    print_watch(out, watch);
    fclose(out);
    if (strcmp(found, expected))
        fail_msg("\"%s\" is \"%s\", not \"%s\"", text, found, expected);
    tl_watch_free(watch);
}

static void variables(void **state)
{
    (void)state;
    means("counter", "counter w");
    means("  counter  ", "counter w");
    means("counter.0", "counter.0 w");
    means("conf.limit", "conf .limit@4 w");
    means("table[3].next", "table [3]@5 .next@8 w");
    means("m[1][0x10]", "m [1]@1 [16]@4 w");
    means("counter+4", "counter +4 w");
    means("conf.limit+0x8 if pid == 3", "conf .limit@4 +8 w if pid == 3");
    means("counter if(new)", "counter w if (new)");
    means("libc.so.6:environ", "libc.so.6 | environ w");
    means("/usr/bin/redis-server:server.dirty", "/usr/bin/redis-server | server .dirty@28 w");
    means("EXE:src/a.c:counter", "EXE | src/a.c | counter w");
    means("a.c:counter", "a.c | counter w");
    means("ns::counter", "ns::counter w");
    means("libx:ns::Box<int, char>::count.x", "libx | ns::Box<int, char>::count .x@30 w");
    means("(anonymous namespace)::counter", "(anonymous namespace)::counter w");
    means("bump(int, char const*)::calls", "bump(int, char const*)::calls w");
    means("main.counter", "main .counter@4 w");
}

static void pasted_from_perf(void **state)
{
    (void)state;
    means("0x601040", "0x601040 /4 w");
    means("mem:0x601040", "0x601040 /4 w");
    means("mem:0x601040/8", "0x601040 /8 w");
    means("mem:0x601040/8:rw", "0x601040 /8 rw");
    means("mem:0x601040:r", "0x601040 /4 r");
    means("mem:0x401000:x", "0x401000 x");
    means("mem:0x401000/8:x", "0x401000 x");
    means("mem:counter", "counter w");
    means("mem:counter/2:wr if old > new", "counter /2 rw if old > new");
    means("mem:buffer+16/8", "buffer +16 /8 w");
    means("mem:libc:environ:w", "libc | environ w");
    means("mem:rw", "rw w");
    means("mem:/usr/lib/libx.so:a.b/4:r", "/usr/lib/libx.so | a .b@22 /4 r");
    means("mem:/usr/lib/libx.so:a", "/usr/lib/libx.so | a w");
    means("mem:main:x", "main x");
}

static void pasted_from_bpftrace(void **state)
{
    (void)state;
    means("watchpoint:0x10000000:8:rw", "0x10000000 /8 rw");
    means("watchpoint:counter:4:w", "counter /4 w");
    means("watchpoint:libx:ns::x:2:r if tid != 4", "libx | ns::x /2 r if tid != 4");
    means("watchpoint:main:8:x", "main x");
}

static void mistakes_are_pointed_at(void **state)
{
    (void)state;
    static const struct {
        const char *marked, *says;
        int code;
    } mistakes[] = {
        {"^^", "a variable's name or an address", -EINVAL},
        {"mem:^^", "a variable's name or an address", -EINVAL},
        {"counter ^^when new", "a filter", -EINVAL},
        {"counter if ^^", "a number", -EINVAL},
        {"counter if new ^^= 3", "==", -EINVAL},
        {"0x1000 if ^^nwe == 3", "old, new, pid, tid or ip", -EINVAL},
        {"mem:main:x if ^^old", "no old or new here", -EINVAL},
        {"s^^->f", "follows no pointer", -ENOTSUP},
        {"a.b^^->f", "follows no pointer", -ENOTSUP},
        {"^^*p", "not supported", -ENOTSUP},
        {"conf.^^", "a member", -EINVAL},
        {"conf^^*2", "a path", -EINVAL},
        {"table[^^x]", "an element's number", -EINVAL},
        {"table[^^-1]", "an element's number", -EINVAL},
        {"table[3^^", "']'", -EINVAL},
        {"counter+^^", "an offset", -EINVAL},
        {"counter+4^^z", "the end of the offset", -EINVAL},
        {"^^:counter", "before the ':'", -EINVAL},
        {"libc:^^", "a variable's name", -EINVAL},
        {"/usr/bin/true^^", "after the path", -EINVAL},
        {"0x10^^z", "the end of the address", -EINVAL},
        {"^^0x11111111111111111", "64 bits", -EINVAL},
        {"mem:counter/^^0", "at least 1", -EINVAL},
        {"mem:counter/^^x", "a length", -EINVAL},
        {"mem:counter/4^^x", "the end of the length", -EINVAL},
        {"mem:counter:^^rx", "x alone", -EINVAL},
        {"mem:counter:r^^r", "r, w, rw or x", -EINVAL},
        {"watchpoint:counter^^", "LENGTH:ACCESS", -EINVAL},
        {"watchpoint:counter:8:^^q", "r, w, rw or x", -EINVAL},
        {"watchpoint:counter:^^q:w", "a length", -EINVAL},
        {"^^asyncwatchpoint:f+arg1:8:w", "not supported", -ENOTSUP},
    };
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        char text[200];
        const char *marked = mistakes[i].marked, *mark = strstr(marked, "^^");
        struct tl_watch *watch;
        struct tl_error error = {0};
        snprintf(text, sizeof text, "%.*s%s", (int)(mark - marked), marked, mark + 2);
        int result = tl_watch_parse(text, &watch, &error);
        if (result != mistakes[i].code || error.column != mark - marked || !strstr(error.text, mistakes[i].says))
            fail_msg("\"%s\": %d, column %d, not %d, saying \"%s\"", text, result, error.column, (int)(mark - marked),
                     error.text);
        assert_null(watch);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variables),
        cmocka_unit_test(pasted_from_perf),
        cmocka_unit_test(pasted_from_bpftrace),
        cmocka_unit_test(mistakes_are_pointed_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
