#!/usr/bin/env python3
"""Runs packetdrill scripts against our stack: run.py --packetdrill PROGRAM --door libfoil-packetdrill.so [--list FILE] [SCRIPT...]

Each script runs once an IP version, in a network namespace of its own where that may be made. sysctl, tc and ip are taken from a folder
of stand-ins: sysctl notes what the script asks, for the door to read; the others do nothing. docs/packetdrill.md says how to build
packetdrill. PSH is not compared (the script runs as a copy without it, the door clears it): on Linux it tells where the buffers of
writes ended, and RFC 9293 leaves it to the sender. A --list has a line a script, relative to the folder of --scripts: the path; where it does not hold for all versions,
"only=ipv4,mapped"; and for a script that is not expected to pass, "skip" and the reason. Output is TAP; exit code 1 when a script of the list that should pass does not."""
import argparse
import concurrent.futures
import os
import re
import stat
import subprocess
import sys
import tempfile

SYSCTL = """#!/bin/sh
for word; do
	case "$word" in
	*=*) echo "$word" >> "$FOIL_DOOR_SYSCTLS" ;;
	esac
done
"""
VERSIONS = {
    "ipv4": [],
    "ipv6": ["--ip_version=ipv6", "--mtu=1520"],  # so that segments are as large as with IPv4
    "mapped": ["--ip_version=ipv4-mapped-ipv6"],
}
TIME_LIMIT_S = 60
PUSHED = re.compile(r"^([^/#<`\n]*>\s+(?:\[[^]]*\]\s+)?[FSRUEW]*)P([.EW]*\s)", re.M)


def make_standins(folder):
    for name, text in (("sysctl", SYSCTL), ("tc", "#!/bin/sh\n"), ("ip", "#!/bin/sh\n")):
        path = os.path.join(folder, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)


def may_unshare():
    return subprocess.run(["unshare", "-n", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def run(args, standins, script, version):
    with tempfile.NamedTemporaryFile(prefix="foil-sysctls-") as sysctls, tempfile.NamedTemporaryFile("w", suffix=".pkt") as copy:
        with open(script) as f:
            copy.write(PUSHED.sub(r"\1\2", f.read()))
        copy.flush()
        env = dict(os.environ, PATH=standins + ":" + os.environ["PATH"], FOIL_DOOR_SYSCTLS=sysctls.name, LD_PRELOAD=args.door)
        command = args.prefix + [args.packetdrill, "--so_filename=" + args.door, "--so_flags=nopush" + (",mtu=1520" if version == "ipv6" else ""), "--send_omit_free"] + VERSIONS[version] + args.option
        try:
            done = subprocess.run(command + [copy.name], cwd=os.path.dirname(os.path.abspath(script)), env=env,
                                  capture_output=True, text=True, errors="replace", timeout=TIME_LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            return False, f"no end within {TIME_LIMIT_S} s"
    return done.returncode == 0, (done.stdout + done.stderr).replace(copy.name, os.path.basename(script)).strip()


def read_list(path, base):
    rows = []
    with open(path) as f:
        for line in f:
            words = line.split("#")[0].split()
            if not words:
                continue
            only = words[1][5:].split(",") if len(words) > 1 and words[1].startswith("only=") else sorted(VERSIONS)
            skip = " ".join(words[words.index("skip") + 1:]) if "skip" in words else ""
            rows.append((os.path.join(base, words[0]), only, skip))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--packetdrill", default=os.environ.get("PACKETDRILL", "packetdrill"))
    parser.add_argument("--door", required=True, type=os.path.abspath)
    parser.add_argument("--list")
    parser.add_argument("--scripts", default=".", help="the folder that the list's paths start from")
    parser.add_argument("--version", action="append", choices=sorted(VERSIONS), help="default: all")
    parser.add_argument("--option", action="append", default=[], help="given to packetdrill as it is")
    parser.add_argument("--skipped-too", action="store_true", help="run what the list skips as well")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("script", nargs="*")
    args = parser.parse_args()
    rows = [(s, sorted(VERSIONS), "") for s in args.script] + (read_list(args.list, args.scripts) if args.list else [])
    if not rows:
        parser.error("no scripts")
    try:
        subprocess.run([args.packetdrill, "--help"], capture_output=True, check=False)
    except OSError:
        print(f"1..0 # SKIP no packetdrill at {args.packetdrill}: docs/packetdrill.md says how to build it")
        return 0
    args.prefix = ["unshare", "-n"] if may_unshare() else []
    cases = [(s, v, skip) for s, only, skip in rows for v in only if not args.version or v in args.version]
    n_bad = 0
    with tempfile.TemporaryDirectory(prefix="foil-packetdrill-") as standins, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        make_standins(standins)
        jobs = [None if skip and not args.skipped_too else pool.submit(run, args, standins, s, v) for s, v, skip in cases]
        print(f"1..{len(cases)}")
        for i, ((script, version, skip), job) in enumerate(zip(cases, jobs), 1):
            name = f"{os.path.relpath(script, args.scripts)} {version}"
            good, text = job.result() if job else (True, "")
            print(f"{'ok' if good else 'not ok'} {i} - {name}" + (f" # SKIP {skip}" if skip else ""))
            n_bad += not good and not skip
            if not good:
                print("".join(f"# {line}\n" for line in text.splitlines()[-12:]), end="")
            sys.stdout.flush()
    return 1 if n_bad else 0


sys.exit(main())
