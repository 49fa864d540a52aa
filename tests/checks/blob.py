#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is injected into other programs: general registers only, system calls only where they are meant to be, nothing to
write, at home at any address.

    blob.py BLOB_ELF OBJECT...     the linked image, and the objects or archives that it was made of
    blob.py --self-test COMPILER...

Code is read from the objects, where it stands apart from constants; relocations too, since linking hides them.
Whatever objdump cannot name is a problem, so that nothing slips through as "(bad)".
"""
import os
import re
import subprocess
import sys
import tempfile

import common

HEAD = ".blob.head"
# Of a line of readelf -SW: name, kind, size, flags.
SECTION = re.compile(r"\s*\[\s*\d+\] (\S*)\s+(\S+)\s+\S+\s+\S+\s+([0-9a-f]+)\s+\S+\s+([A-Za-z]*)\s+\d+\s+\d+\s+\d+$")
PREFIXES = {"lock", "rep", "repz", "repnz", "repe", "repne", "cs", "ds", "es", "ss", "fs", "gs", "data16", "addr32",
            "notrack", "bnd", "xacquire", "xrelease"}
VECTOR = re.compile(r"%(?:[xyz]mm\d+|mm[0-7]|st\b|k[0-7]\b|bnd\d|tmm\d)")
# Instructions that touch vector or x87 state without naming such a register, by their first letters.
STATE = re.compile(r"^(?:f(?!s$)[a-z0-9]+|emms|femms|vzero\w+|v?ldmxcsr|v?stmxcsr|xsave\w*|xrstor\w*|tilerelease|"
                   r"ldtilecfg|sttilecfg|maskmov\w*|vmaskmov\w*)$")
ENTRIES = re.compile(r"^(?:syscall|sysenter|int\d?|into|int1|hlt|in|out|ins\w|outs\w|cli|sti|iret\w?|sysret\w?|sysexit\w?)$")
# The functions that may hold a system call, one each: on a hit, reading the program's memory, asking whether that can do
# without, or who a thread is; the broker and the guards.
MAY_CALL = {"copy", "tl_ask_mask", "tl_ask_process", "tl_ask_thread", "tl_kernel", "tl_broker_entry", "tl_broker_restorer", "tl_guard_drowsy",
            "tl_guard_leaves"}
# How the broker is asked for what it sees of each signal, and how a confined program ends.
TRAPS = {("int3", "tl_ask_mask_by_trap"), ("int3", "tl_end_here")}
# On a hit, from here on, only these may be reached.
HIT, ON_A_HIT = {"tl_blob_enter", "tl_blob_claim"}, {"copy", "tl_ask_mask", "tl_ask_process", "tl_ask_thread"}
RELATIVE = {"R_X86_64_PC32", "R_X86_64_PLT32", "R_X86_64_PC64", "R_X86_64_PC8", "R_X86_64_PC16"}


def code_sections(files):
    """Names of sections that are run; the image's head, a table, lies among them."""
    names = set()
    for line in common.run(["readelf", "-SW", *files]).splitlines():
        match = SECTION.match(line)
        if match and "X" in match.group(4):
            names.add(match.group(1))
    return sorted(names - {HEAD})


def instructions(files):
    """(function, mnemonic, operands, function called or None) of each instruction. A symbol begins a function, a local label
    does not."""
    sections = [word for name in code_sections(files) for word in ("-j", name)]
    text = common.run(["objdump", "-d", "-r", "-z", "-w", "--no-show-raw-insn", "--no-addresses", *sections, *files]) if sections else ""
    found, function = [], None
    for line in text.splitlines():
        head = re.match(r"^<(\S+)>:$", line)
        if head:
            function = head.group(1).split(".")[0]
        if not line.startswith(("\t", " ")):
            continue
        relocation = re.search(r"\bR_X86_64_(?:PLT32|PC32)\s+([A-Za-z_]\w*)", line)
        words = line.split("R_X86_64")[0].split("#")[0].split()
        while words and (words[0] in PREFIXES or words[0].startswith("rex")):
            words.pop(0)
        if not words:
            continue
        target = None
        if words[0].startswith(("call", "j")):
            near = re.search(r"<([A-Za-z_]\w*)[^>+]*>", " ".join(words[1:]))
            target = relocation.group(1) if relocation else near.group(1) if near else None
        found.append((function, words[0], " ".join(words[1:]), target))
    return found


def reachable(calls, roots):
    """Functions that can be called from the roots, each with how it was come to."""
    todo, ways = list(roots), {root: [root] for root in roots}
    while todo:
        name = todo.pop()
        for callee in calls.get(name, ()):
            if callee not in ways:
                ways[callee] = ways[name] + [callee]
                todo.append(callee)
    return ways


def check_entries(entries, calls):
    """`entries`: (function, instruction) of each way into the kernel."""
    problems = [f"a way into the kernel in {function}: {shown}" for function, shown in entries
                if (shown != "syscall" or function not in MAY_CALL) and (shown, function) not in TRAPS]
    functions = [function for function, shown in entries if shown == "syscall"]
    problems += [f"more than one system call in {name}" for name in sorted(set(functions)) if functions.count(name) > 1]
    if not entries:
        problems.append("no system call at all")
    for name, way in reachable(calls, HIT & set(calls)).items():
        if name in functions and name not in ON_A_HIT:
            problems.append("a system call on a hit: " + " ".join(way))
    return problems


def check_code(files):
    problems, entries, calls = [], [], {}
    for function, mnemonic, operands, target in instructions(files):
        shown = f"{mnemonic} {operands}".strip()
        calls.setdefault(function, set())
        if target and target != function:
            calls[function].add(target)
        if "(bad)" in shown or mnemonic.startswith("."):
            problems.append(f"no instruction: {shown}")
        elif VECTOR.search(operands) or STATE.match(mnemonic):
            problems.append(f"vector or x87 state: {shown}")
        elif ENTRIES.match(mnemonic):
            entries.append((function, shown))
    if not calls:
        problems.append("no code at all")
    return problems + check_entries(entries, calls)


def check_sections(file, linked):
    """Sections that are loaded may not be writable; what is linked has one, with all in it."""
    problems = []
    for line in common.run(["readelf", "-SW", file]).splitlines():
        match = SECTION.match(line)
        if not match:
            continue
        name, kind, size, flags = match.groups()
        if "A" in flags and ("W" in flags or "T" in flags) and int(size, 16):
            problems.append(f"{file}: {name} can be written")
        if linked and ("A" in flags and name != ".text" and int(size, 16) or kind in ("RELA", "REL", "DYNAMIC")):
            problems.append(f"{file}: {name} beside the code")
    return problems


def check_relocations(file):
    problems = []
    section = ""
    for line in common.run(["readelf", "-rW", file]).splitlines():
        if line.startswith("Relocation section"):
            section = line.split("'")[1]
        match = re.match(r"[0-9a-f]+\s+[0-9a-f]+\s+(R_X86_64_\w+)\s+(.*)", line)
        if match and match.group(1) not in RELATIVE and not section.startswith((".rela.debug", ".rela.note")):
            problems.append(f"{file}: {section}: {match.group(1)} {match.group(2)}: an address of its own")
    return problems


def check(elf, objects):
    problems = check_code(objects) + check_sections(elf, True)
    for file in objects:
        problems += check_sections(file, False) + check_relocations(file)
    return problems


GOOD = "__attribute__((noinline)) long tl_kernel(long x) { long r; __asm__ volatile(\"syscall\" : \"=a\"(r) : \"a\"(x) : \"rcx\", \"r11\", \"memory\"); return r; }\n"
SAMPLES = {
    "a good one": ("static const int table[4] = {3, 1, 4, 1}; int g(unsigned i) { return table[i & 3]; }", None),
    "fs as a prefix": ('void g(void) { __asm__("mov %%fs:0, %%rax" ::: "rax"); }', None),
    "a vector register": ('void g(void) { __asm__("movaps %xmm0, %xmm1"); }', "%xmm0"),
    "a wide one": ('void g(void) { __asm__("vpaddd (%rax), %zmm20, %zmm3"); }', "zmm"),
    "a mask register": ('void g(void) { __asm__("kmovq %rax, %k1"); }', "%k1"),
    "MMX": ('void g(void) { __asm__("movd %eax, %mm3"); }', "%mm3"),
    "MMX without a register": ('void g(void) { __asm__("emms"); }', "emms"),
    "x87": ('void g(void) { __asm__("fldz"); }', "fldz"),
    "x87 under a prefix": ('void g(void) { __asm__("fs fldl (%rax)"); }', "fldl"),
    "a vector register under an idle prefix": ('void g(void) { __asm__(".byte 0x48; emms"); }', "emms"),
    "the whole state": ('void g(char *p) { __asm__("fxsave (%0)" :: "r"(p)); }', "fxsave"),
    "vzeroupper": ('void g(void) { __asm__("vzeroupper"); }', "vzeroupper"),
    "a syscall elsewhere": ('void g(void) { __asm__("syscall"); }', "kernel in g"),
    "the old way in": ('void g(void) { __asm__("int $0x80"); }', "kernel in g"),
    "the old way where there may be one": ('void tl_broker_entry(void) { __asm__("int $0x80"); }', "kernel in tl_broker_entry"),
    "two in one place": ('void tl_broker_entry(void) { __asm__("syscall"); __asm__("syscall"); }', "more than one"),
    "a hit that reads memory": (
        '__attribute__((noinline)) static void copy(void) { __asm__("syscall"); } void tl_blob_enter(void) { copy(); __asm__(""); }', None),
    "a hit that asks for the mask": (
        '__attribute__((noinline)) void tl_ask_mask(void) { __asm__("syscall"); } void tl_blob_enter(void) { tl_ask_mask(); __asm__(""); }', None),
    "a hit that asks for anything": (
        '__attribute__((noinline)) void h(void) { tl_kernel(1); __asm__(""); } void tl_blob_enter(void) { h(); __asm__(""); }', "on a hit: tl_blob_enter h tl_kernel"),
    "a jump that does": ('void tl_blob_claim(void) { __asm__("jmp tl_kernel"); }', "on a hit: tl_blob_claim tl_kernel"),
    "something to write": ("int counter = 1; int *g(void) { return &counter; }", "can be written"),
    "something to clear": ("static int counter; int g(void) { return ++counter; }", "can be written"),
    "a thread's variable": ("static _Thread_local int t; int g(void) { return ++t; }", "can be written"),
    "a table of addresses": ("void a(void) {} void (*const t[])(void) = {a}; void (*g(int i))(void) { return t[i]; }", "address of its own"),
    "a far symbol": ("extern int far_away; int g(void) { return far_away; }", "address of its own"),
    "code that hides in another section": ('__attribute__((section(".text.hot"))) void g(void) { __asm__("fld1"); }', "fld1"),
    "no instruction": ('void g(void) { __asm__(".byte 0x06, 0xff, 0xff"); }', "no instruction"),
}


def build(compiler, source, folder):
    command = compiler + ["-O1", "-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-mavx512f", "-fno-stack-protector"]
    object_file, elf = os.path.join(folder, "sample.o"), os.path.join(folder, "sample.elf")
    # For fs and thread variables as for all: position independent, as the blob is built.
    subprocess.run(command + ["-fPIC", "-ffreestanding", "-c", "-x", "c", "-", "-o", object_file], input=source, text=True, check=True)
    script = os.path.join(folder, "sample.ld")
    with open(script, "w", encoding="utf-8") as file:
        file.write("SECTIONS { . = 0; .text : { *(.text .text.* .rodata .rodata.*) }\n"
                   "/DISCARD/ : { *(.note* .comment* .eh_frame*) } }\n")
    subprocess.run(compiler + ["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-T," + script,
                               "-Wl,--unresolved-symbols=ignore-all", "-Wl,--no-warn-rwx-segments", object_file, "-o", elf],
                   check=True, capture_output=True)
    return elf, [object_file]


def self_test(compiler):
    for name, (source, wanted) in SAMPLES.items():
        with tempfile.TemporaryDirectory() as folder:
            common.expect(name, check(*build(compiler, GOOD + source, folder)), wanted)
    with tempfile.TemporaryDirectory() as folder:
        common.expect("no syscall", check(*build(compiler, "int g(void) { return 1; }", folder)), "no system call")
        common.expect("no code", check(*build(compiler, "const int x = 1;", folder)), "no code")


if __name__ == "__main__":
    if sys.argv[1] == "--self-test":
        self_test(sys.argv[2:])
    else:
        common.report(check(sys.argv[1], sys.argv[2:]))
