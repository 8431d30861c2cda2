"""Prints each test's result as a line of TAP, which Automake's test driver counts.

pytest's own report goes to the same output; the driver ignores lines that are not TAP.
"""

import os

import pytest

# Taken before pytest starts to capture descriptor 1.
_OUT = os.fdopen(os.dup(1), "w", buffering=1)


class Tap:
    def __init__(self):
        self.count = 0
        self.failed = False

    def line(self, ok, name, directive=""):
        self.count += 1
        self.failed = self.failed or not (ok or directive)
        name = name.replace("#", r"\#")
        _OUT.write(f"\n{'ok' if ok else 'not ok'} {self.count} - {name}{directive}\n")

    def pytest_runtest_logreport(self, report):
        if report.skipped:
            if hasattr(report, "wasxfail"):
                self.line(False, report.nodeid, f" # TODO {report.wasxfail}")
            else:
                self.line(True, report.nodeid, " # SKIP " + str(report.longrepr[-1]).splitlines()[0])
        elif report.failed:
            self.line(False, f"{report.nodeid} ({report.when})")
        elif report.when == "call":
            self.line(True, f"{report.nodeid} ({report.duration:.1f} s)")

    def pytest_collectreport(self, report):
        if report.failed:
            self.line(False, f"{report.nodeid} (collection)")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus):
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or self.failed:
            _OUT.write(f"\n1..{self.count}\n")
        elif exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            _OUT.write("\n1..0 # SKIP no tests were found\n")
        else:
            _OUT.write(f"\nBail out! pytest ended with status {int(exitstatus)}\n")


def pytest_configure(config):
    # Workers of pytest-xdist load this, too; the process that started them has all their reports.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Tap(), "tap")
