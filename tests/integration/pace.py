"""How long this machine stood still, for tests whose subject is time itself.

A machine that is busy or was paused wakes nobody in time, and no program can keep a deadline then. A
thread that wants to be woken every few milliseconds sees that. A test that measures may be late by as
much as the machine was, and not more.
"""

import threading
import time

STEP = 0.01
LATE = 0.03  # what is no news on a machine that is well


class Pace:
    """From its start on."""

    def __init__(self):
        self.gaps = []  # (end, seconds)
        self.last = time.monotonic()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            time.sleep(STEP)
            now = time.monotonic()
            if now - self.last > STEP + LATE:
                self.gaps.append((now, now - self.last - STEP))
            self.last = now

    def stood_still(self, since):
        """Seconds since then in which nobody was woken."""
        now = time.monotonic()
        present = max(0, now - self.last - STEP - LATE)
        return sum(min(seconds, end - since) for end, seconds in self.gaps if end > since) + present


_PACE = Pace()
stood_still = _PACE.stood_still


class Clock:
    """A stop watch that runs only while the machine does."""

    def __init__(self):
        self.begin = time.monotonic()

    def seconds(self):
        return time.monotonic() - self.begin - stood_still(self.begin)
