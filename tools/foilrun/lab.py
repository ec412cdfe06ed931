"""./foil lab: three network namespaces, hydrofoil in the middle one, foil-agent outside; design and addresses: docs/lab.md.

What is up stands in /run/foil-lab/state.json, written before each thing is made, so that `down` finds it after any crash. A process
is ended only while /proc says that its id still belongs to the program that was started (its start time and command line)."""
import fcntl
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

from foilrun import build, ui

RUN = "/run/foil-lab"
STATE = RUN + "/state.json"
LOCK = "/run/foil-lab.lock"
NAMESPACES = {"client": "foil-client", "mesh": "foil-mesh", "backends": "foil-backends"}
DEFAULT_CONFIG = os.path.join(ui.ROOT, "conf/examples/bookinfo-like")
DEFAULT_NODE = os.environ.get("FOIL_NODE") or os.path.join(ui.ROOT, "conf/examples/lab-node.yaml")
LIFE_S = 3 * 3600  # a lab that was forgotten ends by itself
UP_LIMIT_S = 30
OFFLOADS_OFF = "tx off rx off tso off gso off gro off".split()
USAGE = "usage: ./foil lab up [--config DIR] [--node FILE] | exec client|mesh|backends -- CMD | status [--json] | down"


# ---- what is up

def read_state():
    try:
        with open(STATE) as f:
            state = json.load(f)
        return state if isinstance(state, dict) else {}
    except (OSError, ValueError):
        return {}


def write_state(state):
    os.makedirs(RUN, mode=0o755, exist_ok=True)
    with open(STATE + ".new", "w") as f:
        json.dump(state, f, indent=1)
    os.replace(STATE + ".new", STATE)


def start_time(pid):
    """When the process began, in clock ticks since boot: with its id this names one process for ever. None: no such process."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return None if fields[0] == "Z" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().decode("utf-8", "replace").split("\0")[:-1]
    except OSError:
        return []


def is_ours(process):
    return bool(process) and start_time(process["pid"]) == process["start_time"]


def node_value(path, key):
    """A top-level scalar of a node file; the whole truth about it is hydrofoil's parser."""
    with open(path) as f:
        found = re.search(rf"^{key}:[ \t]*[\"']?([^\s\"'#]+)", f.read(), re.M)
    return found.group(1) if found else None


# ---- namespaces

def ip(*words, check=True, quiet=False):
    done = subprocess.run(["ip", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if check and done.returncode:
        raise ui.Failed(f"ip {' '.join(words)}: {done.stderr.strip()}; are we root, with CAP_NET_ADMIN and CAP_SYS_ADMIN?")
    return done


def in_namespace(name, *command):
    done = subprocess.run(["ip", "netns", "exec", NAMESPACES[name], *command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise ui.Failed(f"{' '.join(command)} in {NAMESPACES[name]}: {(done.stderr or done.stdout).strip()}")


def sysctl(name, **values):
    for key, value in values.items():
        in_namespace(name, "sysctl", "-qw", f"{key.replace('__', '.')}={value}")


def addresses(name, lines):
    done = subprocess.run(["ip", "-n", NAMESPACES[name], "-batch", "-"], input="\n".join(lines) + "\n", capture_output=True, text=True)
    if done.returncode:
        raise ui.Failed(f"cannot set up {NAMESPACES[name]}: {done.stderr.strip()}")


def make_namespaces():
    for name in NAMESPACES.values():
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
    for name in NAMESPACES:
        sysctl(name, net__ipv6__conf__all__accept_ra=0, net__ipv6__conf__default__accept_ra=0, net__ipv6__conf__default__accept_dad=0,
               net__ipv4__ip_local_port_range="2048 65000")
    sysctl("mesh", net__ipv6__conf__default__disable_ipv6=1)  # the data plane answers there, not the kernel
    for near, device, peer in (("client", "foil-c0", "foil-m0"), ("backends", "foil-b0", "foil-m1")):
        ip("link", "add", device, "netns", NAMESPACES[near], "type", "veth", "peer", "name", peer, "netns", NAMESPACES["mesh"])
        for name, one in ((near, device), ("mesh", peer)):
            in_namespace(name, "ethtool", "-K", one, *OFFLOADS_OFF)  # checksums in the packets, one packet a frame: as on a wire
            ip("-n", NAMESPACES[name], "link", "set", one, "txqueuelen", "4000", "up")
    addresses("client", ["addr add 198.18.0.2/24 dev foil-c0", "addr add fd00:f011:0::2/64 dev foil-c0 nodad", "addr add 10.1.1.1/32 dev lo",
                         "route add default via 198.18.0.1", "route add default via fd00:f011:0::1"])
    addresses("backends", [f"addr add 198.19.0.{n}/24 dev foil-b0" for n in range(10, 100)] +
              [f"addr add fd00:f011:1::{n}/64 dev foil-b0 nodad" for n in range(10, 100)] +
              ["route add default via 198.19.0.1", "route add default via fd00:f011:1::1"])
    sysctl("backends", net__core__somaxconn=4096)
    wait_for_links()


def wait_for_links():
    """The kernel tells of a carrier up to a second late, and a port opened before that finds its link down."""
    deadline = time.monotonic() + 5
    while ip("-n", NAMESPACES["mesh"], "-br", "link", "show", "up").stdout.count(" UP ") < 2:
        if time.monotonic() > deadline:
            raise ui.Failed("the veth pairs of the lab do not come up: " + ip("-n", NAMESPACES["mesh"], "link").stdout)
        time.sleep(0.02)


def remove_namespaces():
    for device in ("foil-m0", "foil-m1"):  # takes the pair away even where a process keeps its namespace alive
        ip("-n", NAMESPACES["mesh"], "link", "del", device, check=False)
    for name in NAMESPACES.values():
        if os.path.exists(f"/run/netns/{name}"):
            ip("netns", "del", name, check=False)


# ---- processes

def start(state, name, command, log):
    with open(log, "ab") as out:
        p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, cwd="/")
    state.setdefault("processes", {})[name] = {"pid": p.pid, "start_time": start_time(p.pid), "command": command}
    write_state(state)
    return p


def start_hydrofoil(state):
    command = ["ip", "netns", "exec", NAMESPACES["mesh"], state["programs"]["hydrofoil"], state["node"], "--max-life", str(LIFE_S)]
    return start(state, "hydrofoil", command, state["logs"]["hydrofoil"])


def start_agent(state):
    command = [state["programs"]["foil-agent"], "--config", state["config"], "--socket", state["agent_socket"],
               *shlex.split(os.environ.get("FOIL_AGENT_ARGS", ""))]
    return start(state, "foil-agent", command, state["logs"]["foil-agent"])


def end_process(process, signals):
    for sig, wait_s in signals:
        if not is_ours(process):
            return
        try:
            os.kill(process["pid"], sig)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + wait_s
        while is_ours(process) and time.monotonic() < deadline:
            reap(process["pid"])
            time.sleep(0.02)


def reap(pid):
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def end_processes(state):
    quick = ((signal.SIGTERM, 0.3), (signal.SIGTERM, 3), (signal.SIGKILL, 3))  # hydrofoil drains at the first, ends at the second
    for process in list(state.get("processes", {}).values()) + strays():
        end_process(process, quick)


def sees_our_files(pid):
    """In our mount namespace: a lab in a container of its own has another /run/foil-lab, and its agent is not ours."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    except OSError:
        return False


def strays():
    """Our programs whose record was lost: a hydrofoil inside the lab's namespace, an agent at the lab's socket."""
    found = []
    done = ip("netns", "pids", NAMESPACES["mesh"], check=False)
    inside = set(done.stdout.split()) if done.returncode == 0 else set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        words = command_line(pid)
        program = os.path.basename(words[0]) if words else ""
        is_agent = program == "foil-agent" and any(w.startswith(RUN + "/") for w in words) and sees_our_files(pid)
        if (program == "hydrofoil" and pid in inside) or is_agent:
            found.append({"pid": int(pid), "start_time": start_time(pid)})
    return found


# ---- the agent's word

def get(path, port=15000, timeout_s=3):
    """(status, text) from the agent's loopback port; (0, reason) when it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as e:
        return 0, str(e)
    finally:
        connection.close()


def agent_status(state):
    """The agent's /status, {} when it does not answer or is not the lab's own."""
    code, text = get("/status")
    try:
        status = json.loads(text) if code == 200 else {}
    except ValueError:
        return {}
    process = state.get("processes", {}).get("foil-agent", {})
    return status if status.get("agent", {}).get("pid") == process.get("pid") else {}


# ---- commands

def down(keep_quiet=False):
    """Remove what an `up` made, whole or half. True when there was anything."""
    state = read_state()
    had = bool(state) or any(os.path.exists(f"/run/netns/{n}") for n in NAMESPACES.values())
    end_processes(state)
    remove_namespaces()
    keep_logs(state)
    shutil.rmtree(RUN, ignore_errors=True)
    if had and not keep_quiet:
        ui.say("lab: down")
    return had


def keep_logs(state):
    os.makedirs(ui.LOGS, exist_ok=True)
    for name, path in state.get("logs", {}).items():
        if path.startswith(RUN + "/") and os.path.exists(path):
            shutil.copyfile(path, os.path.join(ui.LOGS, f"lab-{name}.log"))


def new_state(config, node):
    for path, what in ((config, "--config"), (node, "--node")):
        if not os.path.exists(path):
            raise ui.Failed(f"{what}: no {path}")
    kind = os.environ.get("FOIL_BUILD", "release")
    programs = {name: build.program(name, kind) for name in ("hydrofoil", "foil-agent", "foilctl")}
    socket = node_value(node, "agent_socket")
    if not socket:
        raise ui.Failed(f"{node}: no agent_socket (docs/node-file.md)")
    logs = {"hydrofoil": RUN + "/hydrofoil.out", "foil-agent": RUN + "/foil-agent.log"}
    own_log = node_value(node, "log")
    if own_log and own_log != "-":
        logs["hydrofoil-own"] = own_log
    return {"config": os.path.abspath(config), "node": os.path.abspath(node), "build": kind, "programs": programs, "agent_socket": socket,
            "access_log": node_value(node, "access_log"), "state_dir": node_value(node, "state_dir"), "logs": logs, "processes": {}}


def up(config=DEFAULT_CONFIG, node=DEFAULT_NODE):
    """Bring the lab up and wait for the snapshot. Returns 0, or prints why not and returns 1 with nothing left."""
    state = new_state(config, node)
    if not os.environ.get("FOIL_NO_BUILD"):
        build.build(state["build"], build.PROGRAMS)
    for name, path in state["programs"].items():
        if not os.access(path, os.X_OK):
            raise ui.Failed(f"the build made no {name} ({path})")
    if down(keep_quiet=True):
        ui.say("lab: removed the one that was up")
    started = time.monotonic()
    try:
        write_state(state)
        make_namespaces()
        ui.say("lab: namespaces " + ", ".join(NAMESPACES.values()))
        hydrofoil = start_hydrofoil(state)
        wait_for_socket(state, hydrofoil)
        ui.say(f"lab: hydrofoil is process {hydrofoil.pid}")
        agent = start_agent(state)
        snapshot = wait_for_snapshot(state, hydrofoil, agent)
    except BaseException as e:
        down(keep_quiet=True)
        if isinstance(e, ui.Failed):
            ui.say(f"lab: {e}\nlab: nothing is left running")
            return 1
        raise
    for reason in snapshot.get("reasons", []):
        ui.say(f"lab: not honoured: {reason}")
    ui.say(f"lab: foil-agent is process {agent.pid}; metrics at http://127.0.0.1:15090/metrics, status at http://127.0.0.1:15000/status")
    ui.say(f"lab: up in {time.monotonic() - started:.1f} s, snapshot {snapshot.get('version')} applied")
    return 0


def ended(process, name, state):
    status = process.poll()
    if status is None:
        return
    how = f"signal {-status}" if status < 0 else f"status {status}"
    raise ui.Failed(f"{name} ended with {how}:\n{logs_text(state, name)}")


def logs_text(state, name):
    return "\n".join(ui.tail(path, 30) for key, path in state["logs"].items() if key.startswith(name) and os.path.exists(path)).strip()


def wait_for_socket(state, hydrofoil):
    deadline = time.monotonic() + UP_LIMIT_S
    while not os.path.exists(state["agent_socket"]):
        ended(hydrofoil, "hydrofoil", state)
        if time.monotonic() > deadline:
            raise ui.Failed(f"hydrofoil made no {state['agent_socket']} in {UP_LIMIT_S} s:\n{logs_text(state, 'hydrofoil')}")
        time.sleep(0.02)


def wait_for_snapshot(state, hydrofoil, agent):
    deadline = time.monotonic() + UP_LIMIT_S
    status = {}
    while time.monotonic() < deadline:
        ended(hydrofoil, "hydrofoil", state)
        ended(agent, "foil-agent", state)
        status = agent_status(state)
        snapshot = status.get("snapshot", {})
        if snapshot.get("state") == "applied":
            return snapshot
        if snapshot.get("state") == "rejected":
            code, text = get("/diagnostics")
            raise ui.Failed("the configuration was refused:\n" + (text.strip() if code == 200 else "\n".join(snapshot.get("reasons", []))))
        time.sleep(0.05)
    raise ui.Failed(f"no snapshot applied in {UP_LIMIT_S} s: {json.dumps(status.get('snapshot', 'the agent does not answer'))}\n"
                    f"{logs_text(state, 'foil-agent')}\n{logs_text(state, 'hydrofoil')}")


def status():
    """What is up, as `lab status --json` prints it."""
    state = read_state()
    if not state:
        return {"up": False}
    processes = {name: {"pid": p["pid"], "running": is_ours(p)} for name, p in state.get("processes", {}).items()}
    answer = agent_status(state)
    snapshot = answer.get("snapshot") or {"version": None, "state": "unknown", "reasons": ["foil-agent does not answer"]}
    return {"up": True, "pids": {name: p["pid"] for name, p in processes.items()}, "processes": processes, "config": state.get("config"),
            "node": state.get("node"), "access_log": state.get("access_log"), "logs": state.get("logs"), "snapshot": snapshot,
            "data_plane": answer.get("data_plane"), "namespaces": NAMESPACES, "agent_socket": state.get("agent_socket")}


def print_status(as_json):
    s = status()
    if as_json:
        ui.say(json.dumps(s, indent=1))
        return 0 if s["up"] else 1
    if not s["up"]:
        ui.say("lab: not up")
        return 1
    for name, p in s["processes"].items():
        ui.say(f"{name:12} process {p['pid']}, {'running' if p['running'] else 'NOT RUNNING'}")
    snapshot = s["snapshot"]
    ui.say(f"{'snapshot':12} {snapshot.get('version')}, {snapshot.get('state')}")
    for reason in snapshot.get("reasons", []):
        ui.say(f"{'':12} {reason}")
    ui.say(f"{'config':12} {s['config']}\n{'node file':12} {s['node']}\n{'access log':12} {s['access_log']}")
    for name, path in s["logs"].items():
        ui.say(f"{'log':12} {name}: {path}")
    return 0


def main(argv):
    command, rest = (argv[0], argv[1:]) if argv else ("", [])
    if command == "status" and set(rest) <= {"--json"}:
        return print_status("--json" in rest)
    options = {"--config": DEFAULT_CONFIG, "--node": DEFAULT_NODE}
    while command == "up" and len(rest) >= 2 and rest[0] in options:
        options[rest[0]], rest = rest[1], rest[2:]
    if command not in ("up", "down") or rest:
        print(USAGE, file=sys.stderr)
        return 2
    ui.need_root("lab " + command)
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), False)
        if command == "up":
            return up(options["--config"], options["--node"])
        if not down():
            ui.say("lab: nothing was up")
    return 0
