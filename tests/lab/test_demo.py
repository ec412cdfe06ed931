"""The demo, as a newcomer starts it: every scene shows what it promises, and nothing is left behind, by --once or by ctrl-C."""
import os
import signal
import subprocess
import sys
import time

from foilrun import lab, ui
from support import check

WITH_LAB = False


def start(*words):
    env = dict(os.environ, PYTHONPATH=os.path.join(ui.ROOT, "tools"), PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1")
    return subprocess.Popen([sys.executable, "-m", "foilrun", "demo", *words], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, start_new_session=True)


def nothing_is_left():
    check(not os.path.exists(lab.RUN), "the run folder is still there")
    for name in lab.NAMESPACES.values():
        check(not os.path.exists("/run/netns/" + name), f"{name} is still there")
    check(not lab.strays(), "a program of the lab still runs")


def test_demo_once_shows_all_its_scenes_and_leaves_nothing():
    demo = start("--once")
    try:
        said, _ = demo.communicate(timeout=120)
    finally:
        ui.kill_group(demo)
    check(demo.returncode == 0, said)
    for word in ("A canary", "end-user: jason", "x-envoy-overloaded", "ejected", "istio_requests_total", "http://127.0.0.1:15090"):
        check(word in said, f"nothing about {word}: {said}")
    nothing_is_left()


def test_demo_interrupted_in_the_middle_leaves_nothing():
    demo = start()
    deadline = time.monotonic() + 60
    said = ""
    while "2. A canary" not in said:
        line = demo.stdout.readline()
        check(line and time.monotonic() < deadline, said)
        said += line
    os.kill(demo.pid, signal.SIGINT)
    more, _ = demo.communicate(timeout=120)
    check(demo.returncode == 0, said + more)
    nothing_is_left()
