/* SPDX-License-Identifier: MIT
 *
 * What an address of code is to a person: the source line, and the functions that the compiler has put into another one
 * there, by debug information (of the file, or its separate debug file); and which instruction has just accessed
 * memory. For threads and signals unwind.h holds here too.
 */
#ifndef TRAPLINE_SYMBOL_SOURCE_H
#define TRAPLINE_SYMBOL_SOURCE_H

#include "symbol/unwind.h"

struct tl_source_line {
    char function[128]; /* put into the one of the next line; "" in the last line: the function of the symbol */
    char file[128];     /* without directories; "": not known */
    unsigned line;
    bool is_system; /* the file is one of the system's headers (below /usr/include, /usr/lib) */
};

/* The lines of a frame, the innermost first: where it is, in which function that is, where that one was called, and so
 * on. Returns how many, at most `most`; 0: there is no debug information. */
size_t tl_unwinder_lines(struct tl_unwinder *unwinder, const struct tl_frame *frame, struct tl_source_line *lines,
                         size_t most);

/* The instruction that has accessed memory, when a data breakpoint was noticed at `rip`. That is the one behind which
 * the processor stands, or a string instruction before its end, or a call that has pushed its return address. */
struct tl_access {
    unsigned kinds;        /* TL_INSN_READS, TL_INSN_WRITES: either will do */
    uint64_t addr, length; /* what is watched */
    bool has_value;        /* … and what it holds now */
    uint64_t value;
};
/* Its address, or `rip` itself where it cannot be told. */
uint64_t tl_unwinder_accessor(struct tl_unwinder *unwinder, uint64_t rip, const struct tl_access *access);
/* What the instruction at an address does to memory: TL_INSN_READS and so on; 0 where there is none. */
unsigned tl_unwinder_access(struct tl_unwinder *unwinder, uint64_t addr);
/* Whether it may have accessed some of these bytes, with the registers (rax 0 … r15 15) that are there behind it. True
 * where that cannot be told. */
bool tl_unwinder_may_touch(struct tl_unwinder *unwinder, uint64_t addr, const uint64_t registers[16], uint64_t from,
                           uint64_t length);

#endif
