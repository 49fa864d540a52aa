/* SPDX-License-Identifier: MIT
 *
 * Much of a C library's hand-written code and of its number crunching, over many lengths and alignments, in one number.
 * Built without builtins, so that the calls are calls.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wchar.h>

enum { SIZE = 40000, HALF = SIZE / 2 };
static char from[SIZE], to[SIZE];
static uint64_t sum = 1;

static void add(uint64_t value)
{
    sum = sum * 31 + value;
}

static void add_place(const char *found, const char *base)
{
    add(found ? (uint64_t)(found - base) : 7);
}

static void strings(size_t n, size_t at)
{
    memcpy(to + at, from + n % 37, n);
    memmove(to + at + 3, to + at, n);
    memmove(to + at, to + at + 5, n);
    memset(to + n + at, (int)at + 1, n / 2);
    to[n + at + n / 2 + 8] = 0;
    add(strlen(to + at));
    add(strnlen(to + at, n));
    add((uint64_t)(memcmp(from + n % 37, to + at, n) > 0));
    add((uint64_t)(strcmp(from + at, to + at) > 0));
    add((uint64_t)(strncmp(from + at, to + at, n) > 0));
    add((uint64_t)(strcasecmp(from + at, to + at) > 0));
    add_place(memchr(to, 77, n + at), to);
    add_place(memrchr(to, 9, n + at), to);
    add_place(rawmemchr(to + at, 0), to);
    add_place(strchr(to + at, 50), to);
    add_place(strrchr(to + at, 50), to);
    add_place(strstr(to + at, "\x20\x3c"), to);
    add(strspn(to + at, "abc\1\2\3") + strcspn(to + at, "\x30"));
    stpcpy(to + HALF, from + SIZE - 1 - n);
    strncpy(to + HALF + at, from + n, n);
    strcat(to + HALF, "end");
    add(strlen(to + HALF));
}

static void wide(void)
{
    wchar_t a[300], b[300];
    for (int i = 0; i < 299; i++)
        a[i] = i * 31 % 50 + 1;
    a[299] = 0;
    for (size_t n = 1; n < 299; n++) {
        wmemcpy(b, a, 300);
        add(wcslen(b + n) + (wmemcmp(a, b + n % 4, n % 290) > 0) + (wcschr(b, (wchar_t)(n % 60)) != NULL));
        wmemset(b, (wchar_t)n, n);
        add(wcscmp(a, b) > 0);
    }
}

static int compare(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void memory(void)
{
    void *held[300] = {0};
    for (size_t i = 0; i < 10000; i++) {
        size_t k = i * 7919 % 300, size = i % 1000 ? i * 31 % 5000 + 1 : 300000;
        if (i % 3 == 0) {
            free(held[k]);
            held[k] = calloc(1, i % 300 + 1);
        } else {
            void *moved = realloc(held[k], size);
            held[k] = moved ? moved : held[k];
        }
        add(held[k] != NULL && i % 3 == 0 ? *(unsigned char *)held[k] : 1);
    }
    for (size_t i = 0; i < 300; i++)
        free(held[i]);
    int numbers[2000];
    for (int i = 0; i < 2000; i++)
        numbers[i] = i * 7919 % 2003;
    qsort(numbers, 2000, sizeof *numbers, compare);
    for (int i = 0; i < 2000; i++)
        add((uint64_t)numbers[i]);
}

static void text(void)
{
    char buffer[500];
    for (int i = 0; i < 200; i++) {
        double number = 0;
        int first = 0;
        snprintf(buffer, sizeof buffer, "%d %e %x %g %a %s %ls", i, i * 1.37, i, i / 3., i * .1, "narrow", L"wide");
        if (sscanf(buffer, "%d %le", &first, &number) == 2)
            add((uint64_t)first + (uint64_t)number);
        add(strlen(buffer) + (uint64_t)strtol(buffer, NULL, 0) + (uint64_t)strtod("1.2345678901234567e3", NULL));
    }
}

static void numbers(void)
{
    double all = 0;
    for (int i = 1; i < 500; i++) {
        double x = i * .37;
        float f = (float)x;
        long double l = x;
        all += sin(x) * cos(x) + exp(-x) + log(x) + pow(x, .3) + atan2(x, 3) + tgamma(x * .01 + 1) + erf(x * .01) +
               cbrt(x);
        all += sinh(x * .01) + fmod(x, 1.3) + j0(x) + lgamma(x) + sinf(f) + powf(f, .2f) + expf(-f) + logf(f);
        all += (double)(sinl(l) + powl(l, .1L) + expl(-l));
    }
    uint64_t bits;
    memcpy(&bits, &all, sizeof bits);
    add(bits);
}

int main(void)
{
    for (int i = 0; i < SIZE - 1; i++)
        from[i] = (char)(1 + i * 7919L % 97);
    for (size_t n = 0; n < 5000; n += n < 300 ? 1 : 97) {
        for (size_t at = 0; at < 20; at += 3)
            strings(n, at);
    }
    wide();
    memory();
    text();
    numbers();
    printf("%llx\n", (unsigned long long)sum);
    return 5;
}
