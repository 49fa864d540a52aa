#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How much of the program's stack a hit takes, at most, a guard, and a signal below the kernel's frame; and that the
direction flag does not matter:
check_stack.py BLOB.elf

The bound is below the red zone and holds for the deepest way through the blob's calls, read from its disassembly.
"""
import re
import subprocess
import sys

STACK_MAX = 544  # gcc stays below 512
GUARD_MAX, SIGNAL_MAX, WATCH_MAX = 896, 896, 1536
LEAVES = {"tl_notify": 32}  # aligns the stack, and calls what is not ours
HOOK_PUSHES = 8 * 3  # rcx, the site, the way back; see src/probe/hook.c
STRING = re.compile(r"%es:\(%rdi\)|%ds:\(%rsi\)")
FLAGS = ("std", "cld", "popf", "popfq")


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout


def bounds(blob):
    """Code lies between two symbols; behind it are constants."""
    symbols = {line.split()[2]: int(line.split()[0], 16) for line in run("nm", blob).splitlines()}
    return symbols["tl_blob_code"], symbols["tl_blob_code_end"]


def functions(blob):
    """Name -> list of (mnemonic, operands), prefixes left out of the mnemonic."""
    found = {}
    start, end = bounds(blob)
    limits = ["--start-address=%d" % start, "--stop-address=%d" % end]
    for line in run("objdump", "-d", "--no-show-raw-insn", *limits, blob).splitlines():
        head = re.match(r"^[0-9a-f]+ <([^>]+)>:$", line)
        code = re.match(r"^\s+[0-9a-f]+:\s+(\S.*)$", line)
        if head:
            if head.group(1) in found:
                raise SystemExit("two functions are called %s" % head.group(1))
            found[head.group(1)] = []
        elif code:
            words = code.group(1).split("#")[0].split()
            while len(words) > 1 and words[0] in ("rep", "repz", "repnz", "lock", "cs", "data16", "notrack", "bnd"):
                words.pop(0)
            found[list(found)[-1]].append((words[0], " ".join(words[1:])))
    return found


def without_cold_parts(found):
    """What a compiler moved out of a function is still part of it, and runs on its frame."""
    for name in [name for name in found if ".cold" in name]:
        found[name.split(".cold")[0]] += found.pop(name)
    return found


def own_stack(code):
    """Bytes that a function pushes, at most."""
    size = 0
    for mnemonic, operands in code:
        adjust = re.match(r"^\$(0x[0-9a-f]+),%rsp", operands)
        lower = re.match(r"^-(0x[0-9a-f]+)\(%rsp\),%rsp", operands)
        amount = int(adjust.group(1), 0) if adjust else 0
        if amount >> 63:
            amount -= 1 << 64
        if mnemonic.startswith("push"):
            size += 8
        elif mnemonic.startswith("sub") and amount > 0 or mnemonic.startswith("add") and amount < 0:
            size += abs(amount)
        elif mnemonic.startswith("lea") and lower:
            size += int(lower.group(1), 0)
        elif mnemonic.startswith("and") and operands.endswith(",%rsp"):
            raise SystemExit("a function aligns its stack: its size is not known")
    return size


def deepest(found, name, path=()):
    """Stack of a function and all that it calls, its own return address included. A jump to another function is a call
    that takes the place of the caller's frame."""
    if name in LEAVES:
        return LEAVES[name]
    if name in path:
        raise SystemExit("recursion: " + " ".join(path + (name,)))
    below = instead = 0
    for mnemonic, operands in found[name]:
        target = re.search(r"<([^>+]+)(\+0x[0-9a-f]+)?>", operands)
        calls = mnemonic.startswith("call")
        if not calls and (mnemonic[0] != "j" or "*" in operands):
            continue
        if not target:
            raise SystemExit("%s: an indirect call" % name)
        other = target.group(1).split(".cold")[0]
        if other != name and not target.group(2):
            depth = deepest(found, other, path + (name,))
            below, instead = (max(below, depth), instead) if calls else (below, max(instead, depth))
    return max(8 + own_stack(found[name]) + below, instead)


def main():
    blob = sys.argv[1]
    found = without_cold_parts(functions(blob))
    problems = []
    for name, code in found.items():
        for mnemonic, operands in code:
            if STRING.search(operands) or mnemonic in FLAGS:
                problems.append("%s depends on the direction flag: %s %s" % (name, mnemonic, operands))
    stack = HOOK_PUSHES - 8 + deepest(found, "tl_blob_enter")
    claim = 8 * 4 + deepest(found, "tl_blob_claim")
    if max(stack, claim) > STACK_MAX:
        problems.append("a hit uses %d bytes of stack, more than %d" % (max(stack, claim), STACK_MAX))
    guard, signal = 8 + deepest(found, "tl_guard_entry"), deepest(found, "tl_broker_entry") - 8
    if guard > GUARD_MAX or signal > SIGNAL_MAX:
        problems.append("a guard uses %d bytes of stack, a signal %d, more than %d and %d"
                        % (guard, signal, GUARD_MAX, SIGNAL_MAX))
    LEAVES["tl_notify"] += deepest(found, "tl_watch_notify")
    watch = deepest(found, "tl_broker_entry") - 8
    if watch > WATCH_MAX:
        problems.append("a watch's signal uses %d bytes of stack, more than %d" % (watch, WATCH_MAX))
    print("functions %d, stack of a hit %d bytes, of a claim %d, of a guard %d, of a signal %d, of a watch's %d"
          % (len(found), stack, claim, guard, signal, watch))
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
