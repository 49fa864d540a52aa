#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a probe fetches is what the program has: registers, arguments, stack, memory, values returned."""
import subprocess

from kit import *


def show(*specs, command=("show",), status=0):
    """The arguments of each hit, by event."""
    words = [word for spec in specs for word in ("-e", spec)]
    done = run_with_file("trace", "--json", *words, "--", target("values"), *command).expect(status)
    found = {}
    for hit in done.hits():
        found.setdefault(hit["probe"], []).append(hit.get("args"))
    return found


def check(spec, **expected):
    (args,) = show(spec).popitem()[1]
    assert args == expected, f"{spec}: {args}, not {expected}"


def test_eight_arguments():
    spec = "EXE!eight " + " ".join(f"$arg{i}:s64" for i in range(1, 9))
    check(spec, **{f"arg{i}": i if i % 2 else -i for i in range(1, 9)})
    check("EXE!eight $arg2:s32 $arg2:u8 $arg2:x16 $arg8:s16", arg1=-2, arg2=254, arg3=0xfffe, arg4=-8)


def test_every_register_by_both_kinds_of_names():
    full = {"rax": 0xa1a2a3a4a5a6a7a8, "rbx": 0xb1b2b3b4b5b6b7b8, "rcx": 0xc1c2c3c4c5c6c7c8,
            "rdx": 0xd1d2d3d4d5d6d7d8, "rsi": 0x5152535455565758, "rdi": 0x6162636465666768,
            "rbp": 0x7172737475767778}
    full.update({f"r{i}": (int(str(i), 16) << 56) + 0x01020304050607 for i in range(8, 16)})
    for group in (list(full)[:8], list(full)[8:]):
        check("EXE!registers_known " + " ".join(f"{r}=%{r}" for r in group), **{r: full[r] for r in group})
    check("EXE!registers_known " + " ".join(f"{r}=%{r}" for r in ("ax", "bx", "cx", "dx", "si", "di", "bp")),
          ax=full["rax"], bx=full["rbx"], cx=full["rcx"], dx=full["rdx"], si=full["rsi"], di=full["rdi"],
          bp=full["rbp"])
    check("EXE!registers_known a=%eax b=%al c=%ah d=%sil e=%r8d f=%r9w g=%r10b h=%r15d",
          a=0xa5a6a7a8, b=0xa8, c=0xa7, d=0x58, e=0x04050607, f=0x0607, g=0x07, h=0x04050607)
    args = show("EXE!registers_known flags=%flags ip=%ip sp=%sp stack=$stack").popitem()[1][0]
    assert args["flags"] & 1, "the carry flag was set"
    assert args["sp"] == args["stack"] and args["sp"] % 8 == 0


def test_the_program_keeps_its_registers_and_flags():
    done = run_with_file("trace", "-e", "EXE!registers_known a=+0(%sp) b=$stack3", "-e", "r EXE:registers_known",
                         "--", target("values"), "show").expect(0)
    assert done.program == "99\n", done.program


def test_the_stack():
    args = show("EXE!registers_known $stack0:x64 $stack1 $stack2 b=+8($stack) c=+16($stack):u8 d=%ip",
                "EXE!with_registers d=%ip")
    known, around = args["registers_known"][0], args["with_registers"][0]
    assert 0 < known["arg1"] - around["d"] < known["d"] - around["d"], "not the return address"
    assert (known["arg2"], known["arg3"], known["b"], known["c"]) == (0x1234, 0x5678, 0x1234, 0x78), known


def test_memory_of_a_record():
    check("EXE!take a=+0(%di):u8 b=+2(%di):s16 c=+4(%di):s32 d=+8(%di):u64 e=+16(%di):string f=+0(+32(%di)):string "
          "g=+16(+40(%di)):string h=+0(+32(+40($arg1))):string",
          a=200, b=-300, c=-70000, d=0xfedcba9876543210, e='first "one"\n', f="pointed to", g="second", h="linked")
    check("EXE!take a=+8(%di):x32 b=+8(%di):x8 c=+48(%di):b4@0/32 d=+48(%di):b8@8/32 e=+48(%di):b16@16/32 "
          "f=+48(%di):b1@2/8 g=+40(+40(%di)):u64 h=-0(%di):u8",
          a=0x76543210, b=0x10, c=4, d=0x12, e=0xabcd, f=1, g=0, h=200)
    check("EXE!take a=+u0(+u32(%di)):ustring b=+4(+40(%di)):s32 c=\\42 d=$comm", a="pointed to", b=99, c=42,
          d="target-values")


def test_globals():
    check("EXE!take a=@global_number b=@global_number+4:u16 c=@global_text:string d=+0(@global_pointer):string "
          "e=@global_text+5:string", a=0x123456789abcdef0, b=0x5678, c="text of the program", d="text of the program",
          e="of the program")


def test_offsets_in_the_file():
    with open(target("values"), "rb") as file:
        content = file.read()
    number, text = content.find((0x123456789abcdef0).to_bytes(8, "little")), content.find(b"text of the program\0")
    check(f"EXE!take a=@+{number:#x} b=@+{number + 4}:u16 c=@+{text:#x}:string d=@+1:u8 e=@+{text + 5}:string",
          a=0x123456789abcdef0, b=0x5678, c="text of the program", d=ord("E"),
          e="of the program")


def test_values_returned():
    got = show("r EXE:classify ret=$retval:s32", "r:all EXE:classify a=$retval:u8 b=%eax:x32")
    assert [args["ret"] for args in got["classify%return"]] == [7, -5, -2000000000], got
    assert [args["b"] for args in got["all"]] == [7, 0xfffffffb, (1 << 32) - 2000000000], got
    for form in ("uretprobe:EXE:classify", "p EXE:classify%return", "pid$target:EXE:classify:return"):
        assert [args["r"] for args in show(form + " r=$retval:s32")["classify%return"]] == [7, -5, -2000000000], form


def test_an_exit_by_a_jump_into_another_function_has_no_value_yet():
    got = show("r EXE:tail ret=$retval:s64", "EXE!tail v=$arg1", "EXE!number v=$arg1 t=+0($arg2):string")
    assert [args["ret"] for args in got["tail%return"]] == [30, None], got
    assert {"v": 8, "t": "even"} in got["number"], got


def test_memory_that_is_not_there_is_a_fault():
    got = show("EXE!look s=+0(%di):string n=+0(%di):u64 c=+0(%di):u8 far=+0(+0(%di)):string under=-8(%di):u64",
               command=["pages"])["look"]
    strings = [args["s"] for args in got]
    assert strings[:3] == ["ended", "", "xxended"], strings
    assert strings[3] == "xended", strings
    assert strings[4] is None or strings[4] == "ended", strings  # runs into what is not there
    assert strings[5:12] == [None] * 7, strings
    assert strings[12] and set(strings[12]) == {"y"} and len(strings[12]) < 4096, strings[12]
    assert strings[13] == "yyy\ufffd" and strings[14] == "", strings
    numbers = [args["n"] for args in got]
    assert numbers[2] == int.from_bytes(b"xxended\0", "little"), numbers
    assert [n is None for n in numbers] == [True, True, False, True, True] + [True] * 7 + [False] * 3, numbers
    assert [args["c"] for args in got][:2] == [ord("e"), 0]
    assert all(args["far"] is None for args in got), got
    assert got[5]["under"] is not None and got[6]["under"] is None


def test_faults_in_text():
    done = run_with_file("trace", "-e", "EXE!look s=+0(%di):string n=+0(%di):u64", "--", target("values"), "pages")
    lines = done.expect(0).out.splitlines()
    assert lines[6].endswith(" look(s=(fault), n=(fault))"), lines[6]
    assert lines[0].endswith(' look(s="ended", n=(fault))'), lines[0]


def test_more_text_than_an_event_holds_is_cut_and_said_to_be():
    words = " ".join(f"s{i}=+0(%di):string" for i in range(8))
    long = show("EXE!look " + words, command=["pages"])["look"][12]
    assert all(text is None or set(text) <= {"y"} for text in long.values()), long


def test_comparison_of_filters_with_python():
    def wrap(n):
        return n & (1 << 64) - 1

    values = range(-50, 51)
    filters = {
        "1": lambda v: True, "0": lambda v: False, "v > 5": lambda v: v > 5, "v <= -3": lambda v: v <= -3,
        "v % 2 == 0 && v > 0": lambda v: v % 2 == 0 and v > 0, "v == 7 || v == -7": lambda v: abs(v) == 7,
        "!(v >= 0)": lambda v: v < 0, "(v & 6) == 6": lambda v: (v & 6) == 6, "v << 1 == 20": lambda v: v == 10,
        "u > 100": lambda v: wrap(v) > 100, "v * v == 49": lambda v: v * v == 49, "(v ^ 5) < 4 && v >= 0": lambda v: v >= 0 and (v ^ 5) < 4,
        "v / 10 == 2": lambda v: 20 <= v <= 29, "v": lambda v: v != 0, 't == "item12"': lambda v: v == 12,
        't != "item12"': lambda v: v != 12, 't ~ "item-1*"': lambda v: str(v).startswith("-1"),
        't ~ "*[57]"': lambda v: v % 10 in (5, 7) if v >= 0 else -v % 10 in (5, 7),
        't ~ "item?"': lambda v: 0 <= v <= 9, "pid == tid": lambda v: True, "pid == 1": lambda v: False,
        "v / (v - v) == 0": lambda v: False, "far == 0": lambda v: False, "far != 0": lambda v: False,
        "v > 0 || far": lambda v: v > 0,
    }
    specs, expected = [], {}
    for i, (text, holds) in enumerate(filters.items()):
        specs += ["-e", f"p:e{i} EXE:number v=$arg1:s64 u=$arg1:u64 t=+0($arg2):string far=+0(%di):u64 if {text}"]
        expected[f"e{i}"] = sum(holds(v) for v in values)
    for command in ("count", "trace"):
        done = run_with_file(command, "--json", *specs, "--", target("values"), "numbers", 50).expect(0)
        if command == "count":
            counts = done.counts()
        else:
            counts = dict.fromkeys(expected, 0)
            for hit in done.hits():
                counts[hit["probe"]] += 1
        wrong = {list(filters)[i]: (counts[f"e{i}"], expected[f"e{i}"]) for i in range(len(filters))
                 if counts[f"e{i}"] != expected[f"e{i}"]}
        assert not wrong, (command, wrong)


def test_fetching_from_threads_disturbs_none():
    bare = subprocess.run([target("calls"), "run", "8", "5"], stdout=subprocess.PIPE, text=True).stdout
    done = run_with_file("trace", "--json", "--block", "-e", "EXE!f[0-7][0-7] x=$arg1 n=+0(%di):u64 s=+0($stack):u64", "--",
                         target("calls"), "run", 8, 5).expect(0)
    assert done.program == bare
    assert len(done.hits()) == 8 * 5 * 2080, done.summary()
    assert all(hit["args"]["s"] is not None for hit in done.hits())


def tell_their_ids(program):
    """Its threads come one after the other, with the same thread block: who is who is known all the same."""
    done = run_with_file("trace", "--json", "-e", "is_here own=$arg1", "--", target(program), 20).expect(0)
    assert len(done.hits()) == 21 and all(hit["tid"] == hit["args"]["own"] for hit in done.hits()), done.out
    done = run_with_file("trace", "--json", "-e", "is_here own=$arg1 if own == tid", "--", target(program), 20).expect(0)
    assert len(done.hits()) == 21, done.out
    done = run_with_file("watch", "--json", "last", "--", target(program), 20).expect(0)
    assert len(done.watches()) == 21 and all(hit["tid"] == hit["new"] for hit in done.watches()), done.out


def test_threads_are_known_by_their_ids():
    tell_their_ids("tids")


def test_threads_of_static_programs_are_known_by_their_ids():
    tell_their_ids("tids-static")


def test_threads_of_musl_programs_are_known_by_their_ids():
    tell_their_ids("tids-musl")


main(globals())
