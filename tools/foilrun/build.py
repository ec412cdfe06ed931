"""./foil build: meson build folders build/<type>, configured once and then kept up to date by ninja."""
import hashlib
import json
import os
import shutil
import subprocess
import tarfile

from foilrun import ui

TYPES = {
    # what people run: -O2 -g; hydrofoil itself as one program at -O3, laid out by the counts of perf/profile.tar.xz
    "release": ["-Dbuildtype=debugoptimized", "-Dlto=true"],
    # release with counters, for `foil train`
    "training": ["-Dbuildtype=debugoptimized", "-Dlto=true", "-Dtrain=true"],
    # release's flags without lto, and every FOIL_DEBUG_ASSERT
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


def meson_options(path):
    """What a folder was configured with; {} when it was not."""
    try:
        with open(os.path.join(path, "meson-info", "intro-buildoptions.json")) as f:
            return {one["name"]: one["value"] for one in json.load(f)}
    except (OSError, ValueError):
        return {}


PROFILE = os.path.join(ui.ROOT, "perf", "profile.tar.xz")


def compiler():
    return subprocess.run(["cc", "-dumpfullversion"], capture_output=True, text=True).stdout.strip()


def source_digests():
    """What a profile is of: a digest of each source of the data plane. Counts of a file that has changed since fit it no more, and the compiler leaves them out."""
    found = {}
    for top in ("dataplane", "nic", "programs"):
        for folder_, _, names in os.walk(os.path.join(ui.ROOT, top)):
            for name in names:
                if name.endswith((".c", ".h", ".def")):
                    with open(os.path.join(folder_, name), "rb") as f:
                        found[os.path.relpath(os.path.join(folder_, name), ui.ROOT)] = hashlib.sha256(f.read()).hexdigest()
    return found


def profile():
    """perf/profile.tar.xz unpacked: its folder, or "" where it is of another compiler. The folder's name changes with it, and so everything is compiled anew."""
    if not os.path.exists(PROFILE):
        return ""
    with open(PROFILE, "rb") as f:
        path = os.path.join(ui.ROOT, "build", "profile-" + hashlib.sha256(f.read()).hexdigest()[:12])
    if not os.path.exists(path):
        part = path + ".part"
        shutil.rmtree(part, ignore_errors=True)
        os.makedirs(part)
        with tarfile.open(PROFILE) as archive:
            for one in archive:
                if one.isfile() and "/" not in one.name:
                    with open(os.path.join(part, one.name), "wb") as f:
                        f.write(archive.extractfile(one).read())
        os.rename(part, path)
    with open(os.path.join(path, "about.json")) as f:
        about = json.load(f)
    if about["compiler"] != compiler():
        ui.say(f"  perf/profile.tar.xz is of gcc {about['compiler']}, this is {compiler()}: built without (sudo ./foil train makes one)")
        return ""
    now = source_digests()
    changed = sum(now.get(name) != digest for name, digest in about["sources"].items() if name.endswith(".c"))
    if changed:
        ui.say(f"  {changed} of {len(now)} sources have changed since perf/profile.tar.xz: compiled without its counts (sudo ./foil train renews it)")
    return path


def build(kind="release", targets=()):
    """Configure if that was not done, and compile. Raises ui.Failed."""
    if shutil.which("meson") is None or shutil.which("ninja") is None:
        raise ui.Failed("meson and ninja are missing: sudo ./foil setup")
    if kind == "fuzz" and shutil.which("clang-14") is None:
        raise ui.Failed("the fuzz build needs clang-14: sudo ./foil setup")
    path = folder(kind)
    env = environment(kind)
    options = list(TYPES[kind]) + (["-Dprofile=" + profile()] if kind == "release" else [])
    if not os.path.exists(os.path.join(path, "build.ninja")):
        shutil.rmtree(path, ignore_errors=True)  # a configuration that was interrupted
        ui.step(f"configure build/{kind}", ["meson", "setup", path, "-Dmarch=" + march(), *options], f"setup-{kind}",
                "is everything installed? sudo ./foil setup", env=env)
    else:
        has = meson_options(path)
        changed = [option for option in options if option.partition("=")[0][2:] in ("lto", "profile") and str(has.get(option.partition("=")[0][2:])).lower() != option.partition("=")[2].lower()]
        if changed:  # configured before there was such an option, or with an older profile
            ui.step(f"configure build/{kind} again", ["meson", "setup", "--reconfigure", path, *changed], f"setup-{kind}", f"rm -r build/{kind} starts afresh", env=env)
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
