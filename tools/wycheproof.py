#!/usr/bin/env python3
"""Wycheproof's vectors (github.com/C2SP/wycheproof, Apache License 2.0) in a compact form for tests/unit/tls/test_wycheproof.c.

    tools/wycheproof.py FOLDER_OF_TESTVECTORS_V1 COMMIT        writes tests/unit/tls/wycheproof/*.txt

A line a vector, hexadecimal, '-' for empty, the result last (1 valid, 0 invalid; what is "acceptable" is left out):
    aead:  KEY NONCE AAD PLAIN CIPHER TAG RESULT       (nonces of 12 bytes and tags of 16 alone: TLS has no other)
    ecdsa: PUBLIC_KEY_DER MESSAGE SIGNATURE RESULT     ('=' for the public key of the line before)"""
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
AEAD = ["aes_gcm", "chacha20_poly1305"]
ECDSA = ["ecdsa_secp256r1_sha256", "ecdsa_secp384r1_sha384"]
NOTICE = """# From Project Wycheproof, github.com/C2SP/wycheproof, testvectors_v1/{name}_test.json at {commit}.
# Copyright Google Inc. and the Wycheproof authors; licensed under the Apache License 2.0 (http://www.apache.org/licenses/LICENSE-2.0).
# Changed: rewritten by tools/wycheproof.py, one line a vector; comments, flags and parameters that TLS has not are left out.
"""


def groups(folder, name):
    with open(f"{folder}/{name}_test.json") as f:
        return json.load(f)["testGroups"]


def aead(group):
    if group["ivSize"] != 96 or group["tagSize"] != 128 or group["keySize"] == 192:
        return
    for t in group["tests"]:
        yield [t[k] for k in ("key", "iv", "aad", "msg", "ct", "tag")], t["result"]


def ecdsa(group):
    key = group.get("publicKeyDer") or group["keyDer"]
    for t in group["tests"]:
        yield [key, t["msg"], t["sig"]], t["result"]
        key = "="


def main():
    folder, commit = sys.argv[1:]
    for names, lines in ((AEAD, aead), (ECDSA, ecdsa)):
        for name in names:
            with open(f"{ROOT}/tests/unit/tls/wycheproof/{name}.txt", "w") as f:
                f.write(NOTICE.format(name=name, commit=commit))
                for group in groups(folder, name):
                    f.writelines(" ".join(v or "-" for v in values) + f" {int(result == 'valid')}\n" for values, result in lines(group) if result != "acceptable")


if __name__ == "__main__":
    main()
