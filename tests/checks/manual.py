#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The manual pages: groff has nothing to say against them, each has the usual sections, and references lead somewhere.

    manual.py FOLDER
    manual.py --self-test
"""
import os
import re
import subprocess
import sys
import tempfile

import common

SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"]
REFERENCE = re.compile(r"^\.BR (trapline[\w-]*) \((\d)\)", re.MULTILINE)


def check_page(folder, name):
    path = os.path.join(folder, name)
    result = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", path], capture_output=True, text=True, check=False)
    problems = [f"{name}: {line}" for line in result.stderr.splitlines()]
    if result.returncode != 0 and not problems:
        problems.append(f"{name}: groff fails")
    text = open(path, encoding="utf-8").read()
    found = [section.strip('"') for section in re.findall(r"^\.SH (.*)$", text, re.MULTILINE)]
    problems += [f"{name}: no section {section}" for section in SECTIONS if section not in found]
    title = re.search(r'^\.TH (\S+) (\d)', text, re.MULTILINE)
    if not title or f"{title.group(1).lower()}.{title.group(2)}" != name:
        problems.append(f"{name}: its title is another page's")
    for page, section in REFERENCE.findall(text):
        if not os.path.isfile(os.path.join(folder, f"{page}.{section}")):
            problems.append(f"{name}: refers to {page}({section}), which does not exist")
    return problems


def check(folder):
    pages = sorted(name for name in os.listdir(folder) if re.search(r"\.\d$", name))
    problems = [problem for name in pages for problem in check_page(folder, name)]
    return problems if pages else ["no pages at all"]


def self_test():
    good = (
        ".TH TRAPLINE 1\n.SH NAME\ntrapline \\- x\n.SH SYNOPSIS\n.B trapline\n.SH DESCRIPTION\nText.\n"
        '.SH "SEE ALSO"\n.BR trapline (1)\n'
    )
    samples = {
        "a good page": (good, None),
        "an unknown macro": (good + ".NOSUCH x\n", "NOSUCH"),
        "a missing section": (good.replace(".SH SYNOPSIS\n", ""), "no section SYNOPSIS"),
        "another page's title": (good.replace(".TH TRAPLINE", ".TH TRAPLINER"), "title"),
        "a reference to nowhere": (good + ".BR trapline-frob (1)\n", "trapline-frob"),
    }
    for name, (text, wanted) in samples.items():
        with tempfile.TemporaryDirectory() as folder:
            common.write_files(folder, {"trapline.1": text})
            common.expect(name, check(folder), wanted)
    with tempfile.TemporaryDirectory() as folder:
        common.expect("an empty folder", check(folder), "no pages")


if __name__ == "__main__":
    if sys.argv[1] == "--self-test":
        self_test()
    else:
        common.report(check(sys.argv[1]))
