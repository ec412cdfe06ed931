#!/usr/bin/env python3
"""A soak, not part of ./foil test: many concurrent gRPC streams echo in both directions while the mesh's configuration changes every second; none may break.

    sudo tests/lab/soak_grpc.py [MINUTES [STREAMS]]          10 minutes and 1,000 streams

Clients and origin are grpcio's where it is installed, in processes of their own (a dozen connections, as grpc's channels have them); what changes is a
timeout in the VirtualService, so that every second a new snapshot is applied under the streams that run. Prints one line a minute and a verdict; the exit
status is 1 when a stream ended, an echo was wrong or late by more than 30 s, or the configuration did not change as often as it should."""
import json
import os
import subprocess
import sys
import tempfile
import time

CONFIG = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: main, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: grpc, protocol: GRPC}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo, namespace: app}
spec:
  hosts: ["*"]
  gateways: [istio-system/main]
  http: [{match: [{uri: {prefix: /soak.Echo/}}], headers: {response: {set: {x-version: "VERSION"}}}, route: [{destination: {host: echo.test, port: {number: 7070}}}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: echo, namespace: app}
spec:
  hosts: [echo.test]
  resolution: STATIC
  ports: [{number: 7070, name: grpc, protocol: GRPC}]
  endpoints: [{address: 198.19.0.10}]
"""
SERVER = r"""
import concurrent.futures, grpc, asyncio
import grpc.aio
async def echo(requests, context):
    async for r in requests:
        yield r
async def main():
    s = grpc.aio.server(options=[("grpc.max_concurrent_streams", 100000)])
    h = grpc.stream_stream_rpc_method_handler(echo)
    s.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("soak.Echo", {"Echo": h}),))
    assert s.add_insecure_port("198.19.0.10:7070")
    await s.start()
    print("ready", flush=True)
    await s.wait_for_termination()
asyncio.run(main())
"""
CLIENT = r"""
import asyncio, json, sys, time, grpc, grpc.aio
n, seconds = int(sys.argv[1]), float(sys.argv[2])
stats = {"echoes": 0, "opened": 0, "broken": [], "slow_s": 0.0}
end = time.time() + seconds
async def one(channel, i):
    call = channel.stream_stream("/soak.Echo/Echo")()
    k = 0
    try:
        while time.time() < end:
            want = b"%d/%d " % (i, k) + b"x" * (k % 200)
            began = time.time()
            await call.write(want)
            got = await asyncio.wait_for(call.read(), 30)
            if got != want:
                raise ValueError("stream %d: %r is not %r" % (i, got[:40] if got is not grpc.aio.EOF else "EOF", want[:40]))
            if k == 0:
                stats["opened"] += 1
            stats["echoes"] += 1
            stats["slow_s"] = max(stats["slow_s"], time.time() - began)
            k += 1
            await asyncio.sleep(1)
        await call.done_writing()
        if await asyncio.wait_for(call.read(), 30) is not grpc.aio.EOF or (await call.code()) != grpc.StatusCode.OK:
            raise ValueError("stream %d did not end in order" % i)
    except Exception as e:
        stats["broken"].append("%s: %s" % (type(e).__name__, str(e)[:200]))
async def tell():
    while True:
        await asyncio.sleep(5)
        print(json.dumps(dict(stats, broken=len(stats["broken"]), first=stats["broken"][:2])), flush=True)
async def main():
    channels = [grpc.aio.insecure_channel("198.18.0.1:80", options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(12)]
    t = asyncio.ensure_future(tell())
    await asyncio.gather(*(one(channels[i % 12], i) for i in range(n)))
    t.cancel()
    print(json.dumps(dict(stats, broken=len(stats["broken"]), first=stats["broken"][:2], is_last=True)), flush=True)
asyncio.run(main())
"""


def lab(*words, **kw):
    foil = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "foil")
    return subprocess.run([foil, "lab", *words], check=True, stdout=subprocess.PIPE, text=True, **kw)


def start(where, *command):
    foil = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "foil")
    return subprocess.Popen([foil, "lab", "exec", where, "--", *command], stdout=subprocess.PIPE, text=True)


def write(directory, version):
    with open(f"{directory}/.new", "w") as f:
        f.write(CONFIG.replace("VERSION", str(version)))
    os.rename(f"{directory}/.new", f"{directory}/30-soak.yaml")


def version_now():
    return json.loads(lab("status", "--json").stdout)["snapshot"]["version"]


def run(directory, minutes, n_streams):
    server = start("backends", sys.executable, "-c", SERVER)
    if server.stdout.readline().strip() != "ready":
        raise SystemExit("the origin did not start: is grpcio installed?")
    client = start("client", sys.executable, "-c", CLIENT, str(n_streams), str(minutes * 60))
    os.set_blocking(client.stdout.fileno(), False)
    last, seen, changes, began = {}, set(), 0, time.time()
    while client.poll() is None:
        time.sleep(1)
        changes += 1
        write(directory, changes)
        for line in client.stdout.readlines():
            last = json.loads(line)
        if changes % 10 == 0:
            seen.add(version_now())
        if changes % 60 == 0:
            print(f"{time.time() - began:.0f} s: {changes} changes, {last}", flush=True)
    for line in client.stdout.readlines():
        last = json.loads(line)
    server.terminate()
    server.wait()
    print(f"{n_streams} streams, {minutes} min, {changes} changes of which {len(seen)} of {changes // 10} looked at were others: {last}")
    good = last.get("is_last") and not last["broken"] and last["opened"] == n_streams and len(seen) >= changes // 10 * 0.9
    print("none broken" if good else "FAILED")
    return 0 if good else 1


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    n_streams = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with tempfile.TemporaryDirectory() as directory:
        write(directory, 0)
        lab("up", "--config", directory)
        try:
            return run(directory, minutes, n_streams)
        finally:
            lab("down")


if __name__ == "__main__":
    sys.exit(main())
