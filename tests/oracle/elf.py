# SPDX-License-Identifier: MIT
"""The functions of a file as groups that can be counted, and the places in the file where they begin."""
import ctypes
import json
import re
import struct
import subprocess


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def json_lines(lines):
    return (json.loads(line) for line in lines if line.startswith("{"))


def segments(path):
    """[(address, offset, size in the file)] of what is loaded."""
    with open(path, "rb") as file:
        header = file.read(64)
        (start,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(start)
        table = file.read(size * count)
    found = []
    for i in range(count):
        kind, _, offset, addr, _, file_size = struct.unpack_from("<IIQQQQ", table, i * size)
        if kind == 1:
            found.append((addr, offset, file_size))
    return found


def to_offset(loaded, addr):
    for start, offset, size in loaded:
        if start <= addr < start + size:
            return addr - start + offset
    return None


def entry(path):
    """Where a program's own code begins: (path, offset)."""
    with open(path, "rb") as file:
        (addr,) = struct.unpack_from("<Q", file.read(64), 24)
    return path, to_offset(segments(path), addr)


# First instructions that uprobes refuse, or execute with another result than the processor does.
KERNEL_TROUBLE = re.compile(r"(?P<flags>pushf|popf)|(?P<vector>v)|(?P<prefix>(lock|notrack|[cdes]s) )")
TROUBLES = {"flags": "uprobes execute pushf and popf wrongly", "prefix": "uprobes refuse the prefix",
            "vector": "uprobes refuse some VEX and EVEX instructions and execute others wrongly"}


def first_instructions(path, addresses):
    """{address: text} for those of the addresses where a disassembler sees an instruction."""
    wanted, found = set(addresses), {}
    process = subprocess.Popen(["objdump", "-d", "--no-show-raw-insn", "-w", path], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        at, tab, text = line.partition(":\t")
        if tab and int(at, 16) in wanted:
            found[int(at, 16)] = text.strip()
    process.wait()
    return found


def indirect_functions(path):
    """{resolver's address: address that runs}, as the dynamic linker of this very process chose."""
    symbols = output("readelf", "--dyn-syms", "-W", path)
    found = re.findall(r"^\s*\d+: ([0-9a-f]+) .* IFUNC .* (\S+?)@@?(\S+)$", symbols, re.MULTILINE)
    if not found:
        return {}
    library = ctypes.CDLL(path)
    look_up = ctypes.CDLL(None).dlvsym
    look_up.restype, look_up.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    base = min(int(line.split("-")[0], 16) for line in open("/proc/self/maps") if line.rstrip().endswith(path))
    chosen = {}
    for addr, name, version in found:
        live = look_up(library._handle, name.encode(), version.encode())
        if live:
            chosen[int(addr, 16)] = live - base
    return chosen


class Group:
    """Functions that share names, and names that share functions: what can only be counted together."""

    def __init__(self, names):
        self.names, self.offsets, self.trouble = set(names), [], None
        self.resolves = set()  # the indirect functions that it is the resolver of


class Module:
    """A file, with `name` as in specs."""

    def __init__(self, trapline, name, path):
        self.name, self.path = name, path
        listed = output(trapline, "list", "--json", path).splitlines()
        functions = [row for row in json_lines(listed) if row["name"] and row["kind"] != "part"]
        self.groups = list(self._group(functions))

    def offsets(self):
        return sorted({offset for group in self.groups if not group.trouble for offset in group.offsets})

    def _group(self, functions):
        loaded = segments(self.path)
        start = entry(self.path)[1]
        chosen = indirect_functions(self.path)
        groups, at = {}, {}
        for function in functions:
            addr, name = int(function["addr"], 16), function["name"]
            if function["kind"] == "ifunc":  # probed is what runs
                addr = chosen.get(addr, -addr)
            group = groups.get(name) or at.get(addr) or Group([name])
            other = at.get(addr, group)
            if other is not group:
                group.names |= other.names
                for moved, owner in list(at.items()):
                    if owner is other:
                        at[moved] = group
                for moved in other.names:
                    groups[moved] = group
            group.names.add(name)
            groups[name] = at[addr] = group
        instructions = first_instructions(self.path, at)
        for function in functions:
            addr = int(function["addr"], 16)
            if function["kind"] == "ifunc" and addr in at:
                at[addr].resolves.add(function["name"])
        for addr, group in at.items():
            offset = to_offset(loaded, addr)
            trouble = KERNEL_TROUBLE.match(instructions.get(addr, ""))
            if offset is None:
                group.trouble = "an indirect function that runs elsewhere"
            elif addr not in instructions:
                group.trouble = "objdump sees no instruction there"
            elif offset == start:
                group.trouble = "the place where counting begins"
            elif trouble:
                group.trouble = TROUBLES[trouble.lastgroup]
            group.offsets.append(offset)
        return set(at.values())
