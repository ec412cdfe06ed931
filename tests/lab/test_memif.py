"""memif peers that die. foil-load is killed in the middle of its work, again and again, and comes back: hydrofoil goes on, in either role of the socket."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

from foilrun import bench_peers, build
import support

KIND = os.environ.get("FOIL_BUILD", "release")
LIVES = {"server": 6, "client": 3}  # of foil-load, by hydrofoil's role


class Node:
    """A hydrofoil whose two ports are memif, its agent, and foil-load at the ports' other ends."""

    def __init__(self, folder, role):
        self.folder, self.role, self.processes = folder, role, []
        cpus = sorted(os.sched_getaffinity(0))
        self.other, self.core = cpus[0], cpus[-1]
        os.makedirs(folder + "/config")
        route = "  - route: [{destination: {host: origin.bench, port: {number: %d}}}]\n" % bench_peers.ORIGIN_PORT
        mesh = bench_peers.MESH.replace("DOWNSTREAM", "HTTP").replace("UPSTREAM", "HTTP").replace("ROUTES", route).replace("TCP_PORT", str(bench_peers.TCP_PORT)) \
            .replace("ORIGIN_PORT", str(bench_peers.ORIGIN_PORT)).replace("PORT", str(bench_peers.PORT)).replace("HOST", bench_peers.HOST)
        with open(folder + "/config/10-bench.yaml", "w") as f:
            f.write(mesh)
        front, back = self.uris(role)
        with open(folder + "/node.yaml", "w") as f:
            f.write(bench_peers.NODE.format(front=front, back=back, workers=1, cores=self.core, other=self.other, folder=folder, mtu=1500, idle="pause", memory=256,
                                            hugepages="off", connections=16384) + "drain_s: 2\n")

    def uris(self, role):
        return [f"memif:socket={self.folder}/{name}.sock,id={i},role={role},rsize=8" for i, name in enumerate(("front", "back"))]

    def start(self, *command):
        log = open(f"{self.folder}/{os.path.basename(command[0])}.out", "ab")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self.processes.append(process)
        return process

    def up(self):
        self.hydrofoil = self.start(build.program("hydrofoil", KIND), self.folder + "/node.yaml", "--max-life", "120")
        self.start(build.program("foil-agent", KIND), "--config", self.folder + "/config", "--socket", self.folder + "/agent.sock")
        support.wait_for(lambda: "snapshot.applied" in self.text("foil-agent.out"), 30, lambda: "not up: " + self.text("hydrofoil.log") + self.text("foil-agent.out"))

    def text(self, name):
        path = os.path.join(self.folder, name)
        if not os.path.exists(path):
            return ""
        with open(path) as f:
            return f.read()

    def remove_sockets(self):
        """A server that was killed leaves its own."""
        for name in ("front", "back") if self.role == "client" else ():
            if os.path.exists(f"{self.folder}/{name}.sock"):
                os.remove(f"{self.folder}/{name}.sock")

    def load(self, seconds, *words):
        front, back = (f"{uri},mac=02:00:00:00:00:0{i}" for i, uri in enumerate(self.uris("client" if self.role == "server" else "server")))  # else a new one each time
        return self.start(os.path.join(build.folder(KIND), "perf", "foil-load"), "--client", front, "--client-address", "198.18.0.2/15", "--origin", back, "--origin-address", "198.19.0.10/24",
                          "--origin-port", str(bench_peers.ORIGIN_PORT), "--target", f"198.18.0.1:{bench_peers.PORT}", "--host", bench_peers.HOST, "--cpu", str(self.other),
                          "--connections", "32", "--body", "100000", "--memory", "128", "--warm-up", "0.1", "--seconds", str(seconds), "--quiet", *words)

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def works(node):
    """A whole run with answers: what the dead left in TCP's tables may hold up the first."""
    path = node.folder + "/load.json"
    for _ in range(4):
        node.remove_sockets()
        code = node.load(0.5, "--json", path).wait(timeout=60)
        support.check(code == 0, f"foil-load ends with {code}: {node.text('foil-load.out')[-600:]}")
        with open(path) as f:
            result = json.load(f)
        if result["requests"] > 100:
            return
    raise AssertionError(f"no answers any more: {result}")



def killed_and_back(role):
    folder = tempfile.mkdtemp(prefix="foil-memif-")
    node = Node(folder, role)
    try:
        if role == "server":
            node.up()
        for i in range(LIVES[role]):
            seen = node.text("hydrofoil.log").count("it is there")
            node.remove_sockets()
            load = node.load(30)
            if role == "client" and i == 0:
                support.wait_for(lambda: os.path.exists(folder + "/back.sock"), 30, lambda: node.text("foil-load.out"))
                node.up()
            if role == "client":
                support.wait_for(lambda: node.text("hydrofoil.log").count("it is there") > seen, 15, lambda: "the server is not reached again: " + node.text("hydrofoil.log")[-600:])
            time.sleep(0.9 + 0.05 * i)
            support.check(load.poll() is None, f"foil-load ended with {load.poll()}: {node.text('foil-load.out')[-600:]}")
            load.send_signal(signal.SIGKILL)
            load.wait()
            support.check(node.hydrofoil.poll() is None, f"hydrofoil ended with {node.hydrofoil.poll()} in life {i}: {node.text('hydrofoil.log')[-600:]}")
        support.wait_for(lambda: "its memif peer left" in node.text("hydrofoil.log"), 10, lambda: node.text("hydrofoil.log"))
        works(node)
        support.check(node.hydrofoil.poll() is None, "hydrofoil ended")
        node.hydrofoil.terminate()
        support.check(node.hydrofoil.wait(timeout=60) == 0, f"hydrofoil ends with {node.hydrofoil.returncode}: {node.text('hydrofoil.log')[-600:]}")
    finally:
        node.end()
        shutil.rmtree(folder, ignore_errors=True)


def test_clients_that_are_killed_and_come_back_harm_nothing():
    killed_and_back("server")


def test_a_server_that_is_killed_is_reached_again():
    killed_and_back("client")
