#!/usr/bin/env python3
"""Same seeds, same packets at the same times: the trace hashes of every scenario in two processes, one of them with its addresses not
randomised; in TAP.   determinism.py PATH_OF_FOIL_SIM"""
import subprocess
import sys

SEEDS = ["--hash", "--seed", "0x5eed", "--count", "2"]


def hashes(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()


def main():
    sim = sys.argv[1]
    runs = [hashes(sim, *SEEDS), hashes(sim, *SEEDS), hashes("setarch", "-R", sim, *SEEDS)]
    n = 0
    bad = 0
    for lines in zip(*runs):
        n += 1
        good = len(set(lines)) == 1
        bad += not good
        print(f"{'ok' if good else 'not ok'} {n} - {' '.join(lines[0].split()[:2])} leaves the same trace under other addresses")
    lengths = {len(r) for r in runs}
    good = len(lengths) == 1 and n > 0
    print(f"{'ok' if good else 'not ok'} {n + 1} - every run came to its end")
    print(f"1..{n + 1}")
    return 1 if bad or not good else 0


if __name__ == "__main__":
    sys.exit(main())
