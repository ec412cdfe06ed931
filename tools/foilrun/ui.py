"""How ./foil speaks: steps that show how far they are, and a failing step that shows the end of its log and what to do."""
import os
import re
import select
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOGS = os.path.join(ROOT, ".foil", "logs")
LINE_MAX = 400  # of a log's line when it is shown: a linker's command has thousands
NINJA_PROGRESS = re.compile(rb"\[(\d+)/(\d+)\]")


class Failed(Exception):
    """The sentence for a human; whoever catches it prints it and ends."""


def say(text=""):
    print(text, flush=True)


def tail(path, n_lines=25):
    try:
        with open(path, "rb") as f:
            f.seek(0, os.SEEK_END)
            f.seek(max(0, f.tell() - 64 * 1024))
            lines = f.read().decode("utf-8", "replace").splitlines()
    except OSError as e:
        return f"(no log: {e})"
    return "\n".join(line if len(line) <= LINE_MAX else line[:LINE_MAX] + " ..." for line in lines[-n_lines:])


class Progress:
    """One line that a terminal rewrites; without a terminal a line every ten seconds, so that a CI log shows life."""

    def __init__(self, title):
        self.title, self.start, self.last, self.is_tty = title, time.monotonic(), time.monotonic(), sys.stdout.isatty()
        if not self.is_tty:
            say(f"  {title} ...")

    def show(self, text):
        now = time.monotonic()
        if self.is_tty and now - self.last >= 0.1:
            print(f"\r\033[K  {self.title} ... {text}", end="", flush=True)
            self.last = now
        elif not self.is_tty and now - self.last >= 10:
            say(f"  {self.title} ... {text}")
            self.last = now

    def done(self, text):
        line = f"  {self.title}: {text} ({time.monotonic() - self.start:.0f} s)"
        say(f"\r\033[K{line}" if self.is_tty else line)


def step(title, command, log, what_to_do, timeout_s=1800, env=None, cwd=ROOT, check=True):
    """Run one command with its output in .foil/logs/LOG.log. Returns its exit status; raises Failed when check is on and it fails."""
    os.makedirs(LOGS, exist_ok=True)
    path = os.path.join(LOGS, log + ".log")
    progress = Progress(title)
    with open(path, "wb") as out:
        p = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             start_new_session=True)
        try:
            status = follow(p, out, progress, timeout_s)
        except BaseException:
            kill_group(p)
            raise
    if status == 0 or not check:
        progress.done("done" if status == 0 else "failed")
        return status
    progress.done("FAILED" if status is not None else f"FAILED: not done after {timeout_s} s")
    say(f"---- end of {path}\n{tail(path)}\n----")
    raise Failed(f"{title} failed; {what_to_do}")


def follow(p, out, progress, timeout_s):
    """Copies p's output to its log until it ends. None when the time is over; the whole process group is killed then."""
    deadline = time.monotonic() + timeout_s
    last_line = b""
    while True:
        ready, _, _ = select.select([p.stdout], [], [], 0.5)
        if ready:
            data = os.read(p.stdout.fileno(), 65536)
            if not data:
                return p.wait()
            out.write(data)
            out.flush()
            found = NINJA_PROGRESS.findall(data)
            if found:
                last_line = b"%s of %s" % found[-1]
            elif not NINJA_PROGRESS.search(last_line) and b" of " not in last_line:
                lines = data.strip().splitlines()
                last_line = lines[-1][:80] if lines else last_line
        progress.show(f"{time.monotonic() - progress.start:.0f} s, {last_line.decode('utf-8', 'replace')}")
        if time.monotonic() > deadline:
            kill_group(p)
            return None


def kill_group(p):
    """End a process that we started in its own session, and what it started."""
    for sig, wait_s in ((signal.SIGTERM, 3), (signal.SIGKILL, 3)):
        try:
            os.killpg(p.pid, sig)
        except ProcessLookupError:
            pass
        try:
            p.wait(wait_s)
            if sig == signal.SIGKILL:
                return
        except subprocess.TimeoutExpired:
            continue


def need_root(command):
    if os.geteuid() != 0:
        raise Failed(f"{command} makes network namespaces and needs root: sudo ./foil {command}")
