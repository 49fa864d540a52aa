#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""watch -a: kernel memory, on all processors. The kernel writes where we can tell: into a page of ours, through its own
mapping of all memory, when we write to /proc/self/mem."""
import ctypes
import mmap
import struct

from kit import *

DIRECT_MAP = 0xFFFF888000000000  # where it is unless it was moved at random


def page_of_ours():
    """A page, its address, and its address in the kernel."""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page[0:8] = bytes(8)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(address // mmap.PAGESIZE * 8)
        (entry,) = struct.unpack("Q", file.read(8))
    return page, address, DIRECT_MAP + (entry & (1 << 55) - 1) * mmap.PAGESIZE


def write_through_the_kernel(address, values):
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        for value in values:
            memory.seek(address)
            memory.write(bytes([value]))


def need_root():
    if os.geteuid():
        raise Skip("needs root")


def watched_writes(*arguments):
    page, address, kernel = page_of_ours()
    tool = Tool("watch", "--json", "-a", *arguments, f"mem:{kernel:#x}/1:w", ready="in place|processor 0")
    if "in place" not in tool.err:
        raise Skip(f"no events of the kernel's memory here: {tool.err}")
    write_through_the_kernel(address, [1])
    return tool, address, kernel, page


def test_each_write_of_the_kernel_is_seen():
    need_root()
    tool, address, kernel, page = watched_writes("-k")
    write_through_the_kernel(address, range(2, 101))
    done = tool.stop().expect(0, "no values before and after")
    hits, name = done.watches(), f"{kernel:#x}"
    if not done.watched()[name]["accesses"]:
        raise Skip("the kernel's mapping of all memory is elsewhere")
    assert done.watched()[name]["accesses"] == len(hits) == 100 and page[0] == 100, done.watched()
    assert all(hit["pid"] == os.getpid() and "old" not in hit and int(hit["ip"], 16) >> 63 for hit in hits)
    times = [hit["time_ns"] for hit in hits]
    assert times == sorted(times) and done.summary()["hits"] == 100 and done.summary()["lost"] == 0
    assert all(hit["stack"][0] == hit["symbol"] and any("ksys_" in frame for frame in hit["stack"]) for hit in hits)
    (writer,) = [line for line in done.lines() if line["type"] == "writer"]
    assert writer["share"] == 1 and writer["writer"] == hits[0]["symbol"].split("+")[0]


def test_n_is_exact():
    need_root()
    tool, address, _, _ = watched_writes("-n", "5")
    write_through_the_kernel(address, range(50))
    done = tool.stop().expect(0)
    if not done.watches():
        raise Skip("the kernel's mapping of all memory is elsewhere")
    assert len(done.watches()) == 5


def one_line(status, pattern, *arguments, **options):
    done = run("watch", "-a", *arguments, **options).expect(status, pattern)
    assert not done.out and done.err.count("\n") == 1, done.err


def test_what_is_refused():
    need_root()
    one_line(1, "no kernel address", "mem:0x601040/4")
    one_line(1, "would take 4 debug registers", f"mem:{DIRECT_MAP + 1:#x}/8")
    one_line(2, "filters", f"mem:{DIRECT_MAP:#x}/8 if pid == 1")
    one_line(1, "the kernel lists no nonesuch_at_all", "nonesuch_at_all")
    one_line(1, "no debug register is free on processor", *[f"mem:{DIRECT_MAP + 8 * i:#x}/8" for i in range(5)])


def test_as_nobody():
    one_line(1, "root", f"mem:{DIRECT_MAP:#x}/8", before=as_nobody(), cwd="/")


main(globals())
