"""The origins of conf/examples/bookinfo-like, one set for all tests of a run; each test begins with them calm."""
import os

import support

BUILD = os.environ.get("FOIL_BUILD", "release")
CONFIG = None
ORIGINS = {}
ECHO = None
ADDRESSES = {"v1": "198.19.0.10", "v2": "198.19.0.12", "ratings-a": "198.19.0.14", "ratings-b": "198.19.0.15", "details": "198.19.0.16",
             "payments-a": "198.19.0.17", "payments-b": "198.19.0.18", "files": "198.19.0.20"}


def begin(config):
    global CONFIG, ECHO
    CONFIG = config
    for name, address in ADDRESSES.items():
        ORIGINS[name] = support.Origin(address, name)
    ECHO = support.Echo("198.19.0.10")


def calm():
    for origin in ORIGINS.values():
        origin.calm()


def end():
    for origin in ORIGINS.values():
        origin.kill()
    ECHO.kill()
    ORIGINS.clear()


class NginxInstead:
    """with NginxInstead("v1", "v2"): nginx answers at these origins' addresses, for tests under load."""

    def __init__(self, *names):
        self.names = names

    def __enter__(self):
        for name in self.names:
            ORIGINS[name].kill()
        self.nginx = support.Nginx({ADDRESSES[name]: name for name in self.names})
        return self

    def __exit__(self, *ignored):
        self.nginx.stop()
        for name in self.names:
            ORIGINS[name].start()
        return False


def config_file(name):
    return os.path.join(CONFIG, name)
