"""./foil build: meson build folders build/<type>, configured once and then kept up to date by ninja."""
import json
import os
import shutil

from foilrun import ui

TYPES = {
    # what people run: -O2 -g; hydrofoil itself as one program at -O3
    "release": ["-Dbuildtype=debugoptimized", "-Dlto=true"],
    # the same with every FOIL_DEBUG_ASSERT
    "debug": ["-Dbuildtype=debugoptimized", "-Dchecks=true"],
    # AddressSanitizer and UBSan: unit tests, simulation, replay
    "asan": ["-Dbuildtype=debugoptimized", "-Doptimization=1", "-Dchecks=true", "-Db_sanitize=address,undefined", "-Db_lundef=false"],
    # libFuzzer programs of tests/fuzz, with both sanitizers
    "fuzz": ["-Dbuildtype=debugoptimized", "-Doptimization=1", "-Dchecks=true", "-Dfuzz=true", "-Db_sanitize=address,undefined",
             "-Db_lundef=false"],
}


# what the lab, the demo and the bench need: a third of the whole, which is mostly tests
PROGRAMS = ["programs/hydrofoil", "programs/foil-agent", "programs/foilctl"]


def folder(kind):
    return os.path.join(ui.ROOT, "build", kind)


def program(name, kind="release"):
    return os.path.join(folder(kind), "programs", name)


def march():
    """x86-64-v3 where this machine has it; older ones get what they have."""
    with open("/proc/cpuinfo") as f:
        flags = next((line for line in f if line.startswith("flags")), "").split()
    if all(flag in flags for flag in ("avx2", "bmi2", "fma", "movbe")):
        return "x86-64-v3"
    ui.say("  this CPU has no AVX2: building for x86-64-v2")
    return "x86-64-v2"


def environment(kind):
    env = dict(os.environ)
    if kind == "fuzz":
        env.update(CC="clang-14", CXX="clang++-14")
    return env


def has_lto(path):
    try:
        with open(os.path.join(path, "meson-info", "intro-buildoptions.json")) as f:
            return any(one["name"] == "lto" and one["value"] for one in json.load(f))
    except (OSError, ValueError):
        return False


def build(kind="release", targets=()):
    """Configure if that was not done, and compile. Raises ui.Failed."""
    if shutil.which("meson") is None or shutil.which("ninja") is None:
        raise ui.Failed("meson and ninja are missing: sudo ./foil setup")
    if kind == "fuzz" and shutil.which("clang-14") is None:
        raise ui.Failed("the fuzz build needs clang-14: sudo ./foil setup")
    path = folder(kind)
    env = environment(kind)
    if not os.path.exists(os.path.join(path, "build.ninja")):
        shutil.rmtree(path, ignore_errors=True)  # a configuration that was interrupted
        ui.step(f"configure build/{kind}", ["meson", "setup", path, "-Dmarch=" + march(), *TYPES[kind]], f"setup-{kind}",
                "is everything installed? sudo ./foil setup", env=env)
    elif kind == "release" and not has_lto(path):  # configured before there was such an option
        ui.step(f"configure build/{kind} again", ["meson", "configure", path, "-Dlto=true"], f"setup-{kind}", "rm -r build/release starts afresh", env=env)
    jobs = str(max(1, os.cpu_count() or 1))
    ui.step(f"build {kind}", ["ninja", "-C", path, "-j", jobs, *targets], f"build-{kind}",
            f"the first \"error:\" or \"FAILED:\" in the log says where; rm -r build/{kind} starts afresh", env=env)


def main(argv):
    kinds = argv or ["release"]
    for kind in kinds:
        if kind not in TYPES:
            raise ui.Failed(f"no build type \"{kind}\": {', '.join(TYPES)}")
    for kind in kinds:
        build(kind)
    return 0
