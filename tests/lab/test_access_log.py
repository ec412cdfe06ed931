"""Access logs in formats of their own, as MeshConfig asks for them: what Envoy was seen to write for the same requests (the oracle; tests/recorded)."""
import json
import os

import shared
from support import Log, ask, check, replace, snapshot, wait_applied

WITH_LAB = True
HOST = "details.example.com"
TEXT = ("own rq=%REQ(X-A)% or=%REQ(X-A?X-B)% len=%REQ(X-A?X-B):3% m=%REQ(:METHOD)% h=%REQ(HOST)% ck=%REQ(COOKIE)% wq=%REQ_WITHOUT_QUERY(X-P)% "
        "wqp=%REQ_WITHOUT_QUERY(X-P?:PATH):5% rs=%RESP(X-ORIGIN)% st=%RESP(:STATUS)% ct=%RESP(NONE?X-ORIGIN)% tr=%TRAILER(X-T)% dm=%DYNAMIC_METADATA(a:b)% "
        "up=%UPSTREAM_PROTOCOL% tls=%DOWNSTREAM_TLS_VERSION% lrb=%LOCAL_REPLY_BODY% qp=%QUERY_PARAM(q)% alt=%ACCESS_LOG_TYPE% ff=%RESPONSE_FLAGS_LONG% pct=%%")
JSON = {"zeta": "%REQ(X-A)%", "alpha": "%RESPONSE_CODE%", "nest": {"y": "%REQ(X-NO)%", "d": "<%REQ(X-A)%>"}, "rs": "%RESP(X-ORIGIN)%", "n": 5}


class Format:
    """The mesh's settings for a while."""

    def __init__(self, lines):
        self.path = shared.config_file("00-mesh.yaml")
        with open(self.path) as f:
            self.before = f.read()
        self.text = self.before.replace("    accessLogFile: /dev/stdout\n", "    accessLogFile: /dev/stdout\n" + lines)

    def __enter__(self):
        version = snapshot().get("version")
        replace(self.path, self.text)
        wait_applied(version)
        return Log()

    def __exit__(self, *ignored):
        version = snapshot().get("version")
        replace(self.path, self.before)
        wait_applied(version)


def test_text_of_any_header():
    with Format(f"    accessLogFormat: '{TEXT}'\n") as log:
        ask(HOST, "/x?q=1&r=2", headers={"x-a": "one", "cookie": "a=b; c=d", "x-p": "/a/b?c=d"})
        line = log.find("own rq=one")
        want = ("own rq=one or=one len=one m=GET h=details.example.com ck=a=b; c=d wq=/a/b wqp=/a/b rs=details st=200 ct=details tr=- dm=- up=HTTP/1.1 tls=- "
                "lrb= qp=1 alt=DownstreamEnd ff=- pct=%")
        check(line == want, f"{line}\nnot\n{want}")
        ask(HOST, "/y", headers={"x-b": "bee and more", "x-a": ""})
        line = log.find("own rq= or= len= ")
        check("wqp=/y " in line and "qp=- " in line, line)
        ask("nobody.example.com", "/nf")
        line = log.find("ff=NoRouteFound")
        check("rs=- st=404" in line and "up=- " in line, line)


def test_json_of_any_header():
    with Format("    accessLogEncoding: JSON\n    accessLogFormat: '" + json.dumps(JSON) + "'\n") as log:
        ask(HOST, "/x", headers={"x-a": 'qu"ote'})
        line = log.find("alpha")
        want = '{"alpha":200,"n":5,"nest":{"d":"<qu\\"ote>","y":null},"rs":"details","zeta":"qu\\"ote"}'
        check(line == want, f"{line}\nnot\n{want}")


def test_a_format_that_is_none_leaves_the_default_and_says_so():
    with Format("    accessLogFormat: '%NO_SUCH_OPERATOR%'\n") as log:
        ask(HOST, "/default-again")
        log.find('"GET /default-again HTTP/1.1" 200')


TELEMETRY = """apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: log, namespace: istio-system}
spec: {accessLogging: [{providers: [{name: envoy}], %s}]}
"""


def test_telemetry_filters_and_disables():
    path = shared.config_file("96-telemetry.yaml")
    try:
        for what, gets in (('filter: {expression: "response.code >= 400 && response.code != 404"}', False), ("disabled: true", False), ("match: {mode: SERVER}", True)):
            version = snapshot().get("version")
            replace(path, TELEMETRY % what)
            wait_applied(version)
            log = Log()
            ask(HOST, "/good")
            ask("nobody.example.com", "/nf")
            shared.ORIGINS["details"].status = 500
            ask(HOST, "/bad")
            shared.calm()
            if "filter" in what:
                check(" 500 " in log.find("/bad"), "an answer that fits the filter is not logged")
            ask(HOST, "/last")
            if gets:
                log.find("/last")
            lines = log.lines()
            check(any("/good" in line for line in lines) == gets and any("/nf" in line for line in lines) == gets, f"{what}: {lines}")
    finally:
        version = snapshot().get("version")
        os.unlink(path)
        wait_applied(version)
