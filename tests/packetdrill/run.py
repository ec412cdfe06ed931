#!/usr/bin/env python3
"""Runs packetdrill scripts against our stack: run.py --packetdrill PROGRAM --door libfoil-packetdrill.so [--list FILE] [SCRIPT...]

Each script runs once an IP version, in a network namespace of its own where that may be made. sysctl, tc and ip are taken from a folder
of stand-ins: sysctl notes what the script asks, for the door to read; the others do nothing. docs/packetdrill.md says how to build
packetdrill. A --list has a line a script, relative to the folder of --scripts: the path, and behind it, for a script that is not
expected to pass, "skip" and the reason. Output is TAP; exit code 1 when a script of the list that should pass does not."""
import argparse
import concurrent.futures
import os
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
    "ipv6": ["--ip_version=ipv6", "--mtu=1520"],
    "mapped": ["--ip_version=ipv4-mapped-ipv6"],
}
TIME_LIMIT_S = 60


def make_standins(folder):
    for name, text in (("sysctl", SYSCTL), ("tc", "#!/bin/sh\n"), ("ip", "#!/bin/sh\n")):
        path = os.path.join(folder, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)


def may_unshare():
    return subprocess.run(["unshare", "-n", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def run(args, standins, script, version):
    with tempfile.NamedTemporaryFile(prefix="foil-sysctls-") as sysctls:
        env = dict(os.environ, PATH=standins + ":" + os.environ["PATH"], FOIL_DOOR_SYSCTLS=sysctls.name, LD_PRELOAD=args.door)
        command = args.prefix + [args.packetdrill, "--so_filename=" + args.door, "--send_omit_free"] + VERSIONS[version] + args.option
        try:
            done = subprocess.run(command + [os.path.basename(script)], cwd=os.path.dirname(os.path.abspath(script)), env=env,
                                  capture_output=True, text=True, errors="replace", timeout=TIME_LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            return False, f"no end within {TIME_LIMIT_S} s"
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def read_list(path, base):
    rows = []
    with open(path) as f:
        for line in f:
            words = line.split("#")[0].split(None, 2)
            if not words:
                continue
            skip = words[2].strip() if len(words) == 3 and words[1] == "skip" else ""
            rows.append((os.path.join(base, words[0]), skip))
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
    rows = [(s, "") for s in args.script] + (read_list(args.list, args.scripts) if args.list else [])
    if not rows:
        parser.error("no scripts")
    try:
        subprocess.run([args.packetdrill, "--help"], capture_output=True, check=False)
    except OSError:
        print(f"1..0 # SKIP no packetdrill at {args.packetdrill}: docs/packetdrill.md says how to build it")
        return 0
    args.prefix = ["unshare", "-n"] if may_unshare() else []
    cases = [(s, v, skip) for s, skip in rows for v in (args.version or sorted(VERSIONS))]
    n_bad = 0
    with tempfile.TemporaryDirectory(prefix="foil-packetdrill-") as standins, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        make_standins(standins)
        jobs = [None if skip and not args.skipped_too else pool.submit(run, args, standins, s, v) for s, v, skip in cases]
        print(f"1..{len(cases)}")
        for i, ((script, version, skip), job) in enumerate(zip(cases, jobs), 1):
            name = f"{os.path.relpath(script, args.scripts)} {version}"
            good, text = job.result() if job else (True, "")
            if skip:
                print(f"{'ok' if good else 'not ok'} {i} - {name} # {'TODO' if job else 'SKIP'} {skip}")
            else:
                print(f"{'ok' if good else 'not ok'} {i} - {name}")
                n_bad += not good
            if not good:
                print("".join(f"# {line}\n" for line in text.splitlines()[-12:]), end="")
            sys.stdout.flush()
    return 1 if n_bad else 0


sys.exit(main())
