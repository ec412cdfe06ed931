"""sudo ./foil train: counts what runs in the data plane while the bench's works go through it, and writes perf/profile.tar.xz, by which `foil build` lays
hydrofoil out (docs/decisions/0011). Some five minutes; to be done when much of dataplane/ has changed, and before a release."""
import io
import json
import os
import shutil
import tarfile

from foilrun import bench, bench_peers, build, ui

USAGE = "usage: sudo ./foil train"
INSIDE = "FOIL_TRAIN_INSIDE"
KIND = "training"
SECONDS = 2
# Every way that packets take through the rooms, and no more of one than of another: a branch's odds are those of all together.
WORKS = ("h1-keepalive", "h1-newconn", "h1-routes-10000", "h1-routes-10000-header", "h1-1mib", "h1-1mib-1500", "tcp-64b", "h2-h1", "h2-h2", "tls-keepalive", "mtls-keepalive",
         "tls-newconn", "tls-resume", "tls-1mib")


def run(counts):
    chosen = {"works": [], "proxies": ["hydrofoil", "hydrofoil-virtio"], "is_named": True, "--seconds": SECONDS, "--rounds": 1, "--json": None, "--urgent": False}
    bench.prepare(chosen)
    bench_peers.Hydrofoil.kind = KIND  # the load generator is release's: what it counts would be another program's
    with bench.Bench(chosen) as b:
        b.open()
        for name in WORKS:
            w = bench.WORKS[name]
            for proxy in b.proxies.values():
                if proxy.name in ("hydrofoil", *w.wires):
                    train_one(b, proxy, w)
    if not os.path.isdir(counts):
        raise ui.Failed(f"{counts} is not there: hydrofoil has counted nothing")


def train_one(b, proxy, w):
    try:
        proxy.up(w)
        result, _ = b.load(proxy, bench.load_arguments(proxy, w), SECONDS, bench.warm_up_s(proxy))
        if result["requests"] == 0 or sum(result["errors"].values()):
            raise ui.Failed(f"{w.name} over {proxy.name}: {result['requests']} requests, errors {result['errors']}: nothing to learn from")
        ui.say(f"   {w.name:24} {proxy.name:18} {result['requests']} requests")
    finally:
        proxy.down()


def pack(counts):
    """The same counts make the same archive."""
    about = json.dumps({"compiler": build.compiler(), "sources": build.source_digests()}, indent=0, sort_keys=True).encode()
    entries = {"about.json": about}
    for name in sorted(os.listdir(counts)):
        if name.endswith(".gcda"):
            with open(os.path.join(counts, name), "rb") as f:
                entries[name] = f.read()
    part = build.PROFILE + ".part"
    with tarfile.open(part, "w:xz", preset=9) as archive:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    os.rename(part, build.PROFILE)
    ui.say(f"  {os.path.relpath(build.PROFILE, ui.ROOT)}: counts of {len(entries) - 1} objects, {os.path.getsize(build.PROFILE)} bytes; ./foil build uses them from now on")


def main(argv):
    if argv:
        raise ui.Failed(USAGE)
    ui.need_root("train")
    counts = os.path.join(build.folder(KIND), "profile")
    if INSIDE not in os.environ:
        build.build("release", [*build.PROGRAMS, "perf/foil-load", "perf/foil-core-speed"])
        build.build(KIND, ["programs/hydrofoil"])
        shutil.rmtree(counts, ignore_errors=True)
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--net", "--", os.path.join(ui.ROOT, "foil"), "train"])
    run(counts)
    pack(counts)
    return 0
