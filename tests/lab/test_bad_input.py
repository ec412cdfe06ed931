"""What cannot work says so in one sentence, ends with a status that is not 0, and leaves nothing running."""
import contextlib
import io
import os
import re
import shutil
import subprocess
import tempfile

from foilrun import lab
from support import check

WITH_LAB = False


def up(config=lab.DEFAULT_CONFIG, node_edit=None):
    """lab up with an edited node file; (status, what it said)."""
    with tempfile.TemporaryDirectory(prefix="foil-bad-") as folder:
        node = os.path.join(folder, "node.yaml")
        with open(lab.DEFAULT_NODE) as f:
            text = f.read()
        with open(node, "w") as f:
            f.write(node_edit(text) if node_edit else text)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            try:
                status = lab.up(config, node)
            except lab.ui.Failed as e:
                status = 1
                print(e)
        return status, out.getvalue()


def nothing_is_left():
    check(not os.path.exists(lab.RUN), "the run folder is still there")
    for name in lab.NAMESPACES.values():
        check(not os.path.exists("/run/netns/" + name), f"{name} is still there")
    check(not lab.strays(), "a program of the lab still runs")


def refused(pattern, **how):
    status, said = up(**how)
    try:
        check(status == 1, f"status {status}: {said}")
        check(re.search(pattern, said), said)
        nothing_is_left()
    finally:
        lab.down(keep_quiet=True)


def test_unknown_node_key_is_refused_by_line():
    refused(r"node\.yaml:2:1: .*wrkers", node_edit=lambda text: "# a comment\nwrkers: {count: 1}\n" + text)


def test_node_key_twice_is_refused():
    refused(r"node\.yaml:\d+:\d+: .*idle", node_edit=lambda text: text + "idle: poll\n")


def test_node_value_of_the_wrong_kind_is_refused():
    refused(r"node\.yaml:\d+:\d+: .*drain_s", node_edit=lambda text: text.replace("drain_s: 5", "drain_s: soon"))


def test_interface_that_is_not_there_is_refused():
    refused(r"foil-m7", node_edit=lambda text: text.replace("iface=foil-m1", "iface=foil-m7"))


def test_port_uri_of_no_kind_is_refused():
    refused(r"carrier-pigeon", node_edit=lambda text: text.replace("af_packet:iface=foil-m1", "carrier-pigeon:loft=1"))


def test_more_hugepages_than_there_are_is_refused():
    refused(r"(?i)hugepage", node_edit=lambda text: text.replace("megabytes: 512, hugepages: auto", "megabytes: 900000, hugepages: on"))


def test_missing_config_folder_is_refused():
    refused(r"no /nonexistent", config="/nonexistent/config")


def test_second_hydrofoil_on_the_same_ports_is_refused_and_the_first_goes_on():
    status, said = up()
    try:
        check(status == 0, said)
        state = lab.read_state()
        pid = state["processes"]["hydrofoil"]["pid"]
        # up() removed its node file; the example is the same text
        done = subprocess.run(["ip", "netns", "exec", lab.NAMESPACES["mesh"], state["programs"]["hydrofoil"], lab.DEFAULT_NODE, "--max-life", "20"],
                              capture_output=True, text=True, timeout=30)
        check(done.returncode != 0, "a second hydrofoil runs")
        said = done.stdout + done.stderr
        check(str(pid) in said or "agent.sock" in said or "foil-m0" in said, said)
        check(len(said.strip().splitlines()) <= 3, "one sentence, not: " + said)
        check(lab.is_ours(state["processes"]["hydrofoil"]), "the first one is gone")
        check(lab.agent_status(state).get("snapshot", {}).get("state") == "applied", "the first one lost its snapshot")
    finally:
        lab.down(keep_quiet=True)
    nothing_is_left()


def test_foilctl_validate_names_file_and_line():
    with tempfile.TemporaryDirectory(prefix="foil-bad-") as folder:
        config = shutil.copytree(lab.DEFAULT_CONFIG, folder + "/config")
        foilctl = lab.new_state(config, lab.DEFAULT_NODE)["programs"]["foilctl"]
        done = subprocess.run([foilctl, "validate", config], capture_output=True, text=True, timeout=30)
        check(done.returncode == 0, done.stdout + done.stderr)
        with open(lab.DEFAULT_NODE) as f, open(folder + "/node.yaml", "w") as out:
            out.write(f.read().replace("{istio: ingressgateway}", "{istio: other}"))
        done = subprocess.run([foilctl, "validate", config, "--node", folder + "/node.yaml"], capture_output=True, text=True, timeout=30)
        check(done.returncode == 0 and "spec.selector: no gateway of the node file" in done.stdout, done.stdout + done.stderr)
        with open(config + "/30-ratings.yaml", "a") as f:
            f.write("---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bad, namespace: x}\nspec: {hosts: 3}\n")
        done = subprocess.run([foilctl, "validate", config], capture_output=True, text=True, timeout=30)
        check(done.returncode == 1 and re.search(r"30-ratings\.yaml:\d+:\d+", done.stdout + done.stderr), done.stdout + done.stderr)
