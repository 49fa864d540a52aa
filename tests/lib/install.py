#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Installs into a folder of its own, and builds and runs programs against what is there, by pkg-config, in C and in C++,
with the shared library and with the static one.

    install.py SOURCE_FOLDER BUILD_FOLDER VERSION COMPILER...
"""
import glob
import os
import shutil
import subprocess
import sys
import tempfile


def run(command, **more):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\nended with {result.returncode}:\n{result.stdout}")
    return result.stdout


def only(pattern):
    found = glob.glob(pattern, recursive=True)
    if len(found) != 1:
        sys.exit(f"{pattern}: {found}")
    return found[0]


def main():
    source, build, version, *c_compiler = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        run(["meson", "install", "-C", build, "--no-rebuild", "--quiet"], env=dict(os.environ, DESTDIR=folder))
        package = os.path.dirname(only(f"{folder}/**/trapline.pc"))
        library = os.path.dirname(only(f"{folder}/**/libtrapline.a"))
        prefix = only(f"{folder}/**/include/trapline").removesuffix("/include/trapline")
        for wanted in ("include/trapline/trapline.h", "share/man/man3/libtrapline.3", "bin/trapline"):
            only(f"{prefix}/{wanted}")
        if os.path.exists(f"{prefix}/include/trapline/port.h"):
            sys.exit("port.h is no business of others")
        environment = dict(os.environ, PKG_CONFIG_PATH=package, LD_LIBRARY_PATH=library,
                           PKG_CONFIG_SYSROOT_DIR=folder)
        if run(["pkg-config", "--modversion", "trapline"], env=environment).strip() != version:
            sys.exit("another version")
        shared = run(["pkg-config", "--cflags", "--libs", "trapline"], env=environment).split()
        static = run(["pkg-config", "--cflags", "--libs", "--static", "trapline"], env=environment).split()
        # The archive is one file, and what it stands on is the system's.
        at = static.index("-ltrapline")
        static[at:at + 1] = ["-Wl,-Bstatic", "-ltrapline", "-Wl,-Bdynamic"]
        ways = [(c_compiler, ["-std=c11", "-xc"])]
        if shutil.which("g++"):
            ways.append((["g++"], ["-std=c++17", "-xc++"]))
        for compiler, language in ways:
            for name, options in (("shared", shared), ("static", static)):
                program = os.path.join(folder, "consumer")
                run(compiler + language + ["-O2", "-Wall", "-Wextra", "-Werror", "-o", program,
                                           os.path.join(source, "tests/lib/consumer.c"), "-xnone"] + options)
                if (name == "shared") != ("libtrapline.so.0" in run(["readelf", "-d", program])):
                    sys.exit(f"{name}, but linked otherwise")
                printed = run([program], env=environment)
                if printed != f"7 hits, 11, version {version}\n":
                    sys.exit(f"{name}, {compiler}: printed {printed}")


if __name__ == "__main__":
    main()
