/* SPDX-License-Identifier: MIT
 *
 * Functions to be probed while they run: sorting, parsing, hashing, recursion, tables, floating point. All lie in one
 * section. Compiled several times, with different options; NAME is the entry's.
 */
#include <stdint.h>

#define PROBED __attribute__((section("subject"), noinline, used)) static

uint64_t NAME(uint64_t seed);

PROBED uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

PROBED int compare(const uint32_t *a, const uint32_t *b)
{
    return (*a > *b) - (*a < *b);
}

PROBED void sort(uint32_t *items, long count, int (*order)(const uint32_t *, const uint32_t *))
{
    while (count > 1) {
        uint32_t pivot = items[(count - 1) / 2];
        long i = 0, k = count - 1;
        for (;; i++, k--) {
            while (order(&items[i], &pivot) < 0)
                i++;
            while (order(&items[k], &pivot) > 0)
                k--;
            if (i >= k)
                break;
            uint32_t swap = items[i];
            items[i] = items[k];
            items[k] = swap;
        }
        sort(items, k + 1, order);
        items += k + 1;
        count -= k + 1;
    }
}

PROBED double parse(const char *text)
{
    double value = 0, scale = 1;
    int negative = *text == '-', exponent = 0;
    text += negative;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (*text - '0');
    if (*text == '.')
        for (text++; *text >= '0' && *text <= '9'; text++, scale *= 10)
            value = value * 10 + (*text - '0');
    if (*text == 'e') {
        int sign = text[1] == '-' ? -1 : 1;
        for (text += 1 + (sign < 0); *text >= '0' && *text <= '9'; text++)
            exponent = exponent * 10 + (*text - '0');
        for (; exponent > 0; exponent--)
            scale = sign < 0 ? scale * 10 : scale / 10;
    }
    return (negative ? -value : value) / scale;
}

PROBED char *print(char *out, uint64_t value, unsigned base)
{
    char digits[64];
    int count = 0;
    do
        digits[count++] = "0123456789abcdef"[value % base];
    while (value /= base);
    while (count)
        *out++ = digits[--count];
    *out = 0;
    return out;
}

PROBED uint32_t checksum(const void *bytes, unsigned long size)
{
    uint32_t sum = ~0u;
    for (const uint8_t *at = bytes; size--; at++) {
        sum ^= *at;
        for (int bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (sum & 1 ? 0xedb88320u : 0);
    }
    return ~sum;
}

PROBED unsigned ackermann(unsigned m, unsigned n)
{
    return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

/* A jump table. */
PROBED uint64_t interpret(const uint8_t *code, uint64_t x, uint64_t y)
{
    for (;; code++)
        switch (*code) {
        case 0:
            return x;
        case 1:
            x += y;
            break;
        case 2:
            x -= y << 3;
            break;
        case 3:
            x = x >> 5 | x << 59;
            break;
        case 4:
            y = y * 0x9e3779b97f4a7c15u + x;
            break;
        case 5:
            x = y > x ? y / (x | 1) : x % (y | 1);
            break;
        case 6:
            x ^= y;
            break;
        case 7:
            x = (uint64_t)__builtin_bswap64(x);
            break;
        default:
            y++;
        }
}

PROBED double product(const double (*a)[4], const double (*b)[4])
{
    double trace = 0;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 4; k++) {
            double sum = 0;
            for (int l = 0; l < 4; l++)
                sum += a[i][l] * b[l][k];
            trace += i == k ? sum : sum / 1024;
        }
    return trace;
}

PROBED uint64_t run(uint64_t seed)
{
    static const uint8_t code[] = {1, 3, 4, 6, 7, 2, 5, 9, 1, 4, 3, 6, 5, 0};
    uint32_t items[200];
    double matrix[2][4][4], result;
    char text[80];
    uint64_t state = seed | 1, bits;
    for (int i = 0; i < 200; i++)
        items[i] = (uint32_t)next(&state) % 1000;
    sort(items, 200, compare);
    uint64_t sum = checksum(items, sizeof items) + interpret(code, next(&state), next(&state));
    char *end = print(text, next(&state) % 1000000, 10);
    *end++ = '.';
    end = print(end, next(&state) % 1000, 10);
    *end++ = 'e';
    *end++ = '-';
    print(end, next(&state) % 9, 10);
    for (int i = 0; i < 32; i++)
        matrix[i / 16][i / 4 % 4][i % 4] = parse(text) + (double)(next(&state) % 100);
    result = product((const double(*)[4])matrix[0], (const double(*)[4])matrix[1]);
    __builtin_memcpy(&bits, &result, sizeof bits);
    print(text, bits, 16);
    return sum + checksum(text, 16) + ackermann(2, (unsigned)(seed % 7)) + interpret(code, bits, sum);
}

uint64_t NAME(uint64_t seed)
{
    return run(seed);
}
