"""TAP, and commands, for the lab's programs that stand alone: net_ping.py, net_node.py, tcp_echo.py. One test's count a process."""
import subprocess
import sys

n = n_failed = 0


def ok(good, text, detail=""):
    global n, n_failed
    n += 1
    n_failed += not good
    print(f"{'ok' if good else 'not ok'} {n} - {text}")
    if not good:
        for line in str(detail).splitlines():
            print(f"# {line}")
    sys.stdout.flush()


def plan():
    """The last line, and the exit status."""
    print(f"1..{n}")
    return 1 if n_failed else 0


def run(*args, check=True, timeout_s=None):
    done = subprocess.run(args, capture_output=True, text=True, timeout=timeout_s)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(args)}: {done.stderr.strip()}")
    return done
