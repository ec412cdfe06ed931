"""perf/profile.tar.xz is what `foil train` writes (docs/decisions/0011), and of about these sources: counts of most files that have changed since are left out by
the compiler, so that beyond a quarter of them the build is not what docs/performance.md speaks of."""
import json
import os
import sys
import tarfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from foilrun import build, ui  # noqa: E402

MOST_CHANGED = 0.25


def source_of(name):
    """#dataplane#core#libfoil_core.a.p#arena.c.gcda -> dataplane/core/arena.c"""
    parts = [part for part in name[:-len(".gcda")].split("#") if part and not part.endswith(".p")]
    return "/".join(parts)


def main():
    findings = []
    with tarfile.open(build.PROFILE) as archive:
        names = archive.getnames()
        about = json.load(archive.extractfile("about.json"))
        findings += [f"{one.name}: not a file of counts" for one in archive if one.name != "about.json" and not (one.isfile() and one.name.endswith(".gcda"))]
    counted = [source_of(name) for name in names if name.endswith(".gcda")]
    findings += [f"{name}: counts of a file that nobody has a digest of" for name in counted if name not in about["sources"]]
    if not about["compiler"] or len(counted) < 100:
        findings.append(f"counts of {len(counted)} objects by gcc {about['compiler'] or '?'}: that was no training")
    now = build.source_digests()
    changed = [name for name in counted if now.get(name) != about["sources"].get(name)]
    if len(changed) > MOST_CHANGED * len(counted):
        findings.append(f"{len(changed)} of {len(counted)} sources have changed since: sudo ./foil train")
    for line in findings:
        print(f"{os.path.relpath(build.PROFILE, ui.ROOT)}: {line}")
    print(f"profile: {'fine' if not findings else f'{len(findings)} findings'}; {len(changed)} of {len(counted)} sources have changed since")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
