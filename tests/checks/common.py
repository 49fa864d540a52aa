# SPDX-License-Identifier: MIT
"""What the checks share: how they report, and how they show that they can fail.

Each check is a function from some input to a list of problems. Run as it is, a script applies its check to the
project; run with --self-test, to small samples of its own, bad ones that it must complain about and good ones that it must not.
"""
import os
import subprocess
import sys


def report(problems):
    """Print the problems and exit accordingly."""
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


def expect(what, problems, wanted):
    """For self-tests: `wanted` is a word that one of the problems has to hold, or None where there must be none."""
    if wanted is None and problems:
        sys.exit(f"self-test: {what}: complains without a reason: {problems}")
    if wanted is not None and not any(wanted in problem for problem in problems):
        sys.exit(f"self-test: {what}: no problem with {wanted!r} among {problems}")


def run(command, **options):
    """The standard output of a command that has to succeed."""
    return subprocess.run(command, check=True, text=True, capture_output=True, **options).stdout


def tracked_files(root):
    """The files of the project, relative to its root: as git has them, or all where there is no repository."""
    listing = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, check=False)
    if listing.returncode == 0 and listing.stdout:
        names = [os.fsdecode(name) for name in listing.stdout.split(b"\0") if name]
        return sorted(name for name in names if os.path.isfile(os.path.join(root, name)))
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in (".git", "__pycache__") and not f.startswith("build")]
        found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return sorted(found)


def write_files(root, files):
    """Lay out a sample project: a dictionary from paths to contents."""
    for path, content in files.items():
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
