#!/usr/bin/env python3
"""A picture of the agent's /perf page after some seconds of looking: screenshot.py URL FILE.png [SECONDS]. Needs chromium-headless-shell (Debian's)
and python3-websockets. It ends with 1 and says so when the page shows no figures or its script failed."""
import asyncio
import base64
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import websockets

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")


async def look(port, url, path, seconds):
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=2) as answer:
                page = next(p for p in json.load(answer) if p["type"] == "page")
            break
        except (OSError, StopIteration):
            await asyncio.sleep(0.1)
    async with websockets.connect(page["webSocketDebuggerUrl"], max_size=1 << 26) as socket:
        failures, number = [], 0

        async def call(method, **params):
            nonlocal number
            number += 1
            await socket.send(json.dumps({"id": number, "method": method, "params": params}))
            while True:
                message = json.loads(await socket.recv())
                if message.get("method") == "Runtime.exceptionThrown":
                    failures.append(message["params"]["exceptionDetails"]["text"])
                if message.get("id") == number:
                    return message.get("result", {})

        await call("Runtime.enable")
        await call("Emulation.setDeviceMetricsOverride", width=1400, height=1180, deviceScaleFactor=1, mobile=False)
        await call("Page.navigate", url=url)
        await asyncio.sleep(seconds)
        text = (await call("Runtime.evaluate", expression="document.getElementById('tiles').innerText"))["result"].get("value", "")
        state = (await call("Runtime.evaluate", expression="document.getElementById('state').innerText"))["result"].get("value", "")
        picture = await call("Page.captureScreenshot", format="png")
        with open(path, "wb") as f:
            f.write(base64.b64decode(picture["data"]))
        print(" ".join(text.split()), "|", state)
        return failures or ([] if "requests/s" in text else ["no figures: " + state])


def main(url, path, seconds="8"):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        sys.exit("no browser: apt-get install chromium-headless-shell")
    with tempfile.TemporaryDirectory() as home:
        p = subprocess.Popen([browser, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=9333", "--user-data-dir=" + home, "about:blank"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            failures = asyncio.run(look(9333, url, path, float(seconds)))
        finally:
            p.kill()
            p.wait()
    if failures:
        sys.exit("; ".join(failures))


if __name__ == "__main__":
    main(*sys.argv[1:])
