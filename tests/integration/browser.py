"""Chromium without a window, spoken to over a pair of pipes in its DevTools protocol.

Nothing but the browser is needed: with --remote-debugging-pipe it reads messages from descriptor 3 and
writes to descriptor 4, each ended by a zero byte.
"""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

from lines import SECONDS, eventually


def high_pipe():
    """A pipe whose ends are out of the way of 3 and 4."""
    ends = []
    for low in os.pipe():
        ends.append(fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(low)
    return ends


class Browser:
    def __init__(self, program):
        self.profile = tempfile.mkdtemp(prefix="pglockd-browser-")
        to_read, self.to = high_pipe()
        self.back, to_write = high_pipe()
        # It takes its ends as 3 and 4, which may be in use here: a shell (one that knows of numbers
        # above 9) puts them there.
        command = [program, "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu",
                   "--no-sandbox", "--disable-dev-shm-usage", "--disable-extensions", "--hide-scrollbars",
                   "--disable-background-networking", "--force-color-profile=srgb", "--lang=en",
                   f"--user-data-dir={self.profile}", "about:blank"]
        shell = ["bash", "-c", f'exec 3<&{to_read} 4>&{to_write}; exec "$@"', "bash", *command]
        self.process = subprocess.Popen(shell, pass_fds=[to_read, to_write], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.numbers = itertools.count(1)
        self.received = b""
        self.events = []
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in "Page", "Runtime", "Log":
            self.call(f"{domain}.enable")

    def close(self):
        os.close(self.to)
        os.close(self.back)
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)

    def message(self):
        until = time.monotonic() + SECONDS
        while b"\0" not in self.received:
            ready, _, _ = select.select([self.back], [], [], max(0, until - time.monotonic()))
            data = os.read(self.back, 1 << 20) if ready else b""
            assert data, "the browser is silent" if not ready else "the browser has ended"
            self.received += data
        text, self.received = self.received.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data):]
        while True:
            answer = self.message()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def run(self, expression):
        """The value of a JavaScript expression in the page, as JSON would carry it."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression):
        """Waits until the expression is true, and returns its value."""
        return eventually(lambda: self.run(expression), what=expression)

    def size(self, width, height, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=phone)

    def prefer(self, scheme):
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, url):
        if url != "about:blank":
            self.open("about:blank")  # so that another fragment is another page, too
        self.call("Page.navigate", url=url)
        self.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    def press(self, key, text=""):
        for kind in "keyDown", "keyUp":
            self.call("Input.dispatchKeyEvent", type=kind, key=key,
                      **({"text": text} if text and kind == "keyDown" else {}))

    def type(self, text):
        for character in text:
            self.press(character, character)

    def complaints(self):
        """What the page threw, and what the browser had to say against it."""
        return [event["params"] for event in self.events
                if event["method"] == "Runtime.exceptionThrown"
                or event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error"]

    def screenshot(self, path, full=True):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
