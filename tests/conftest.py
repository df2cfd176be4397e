"""FASTBPTT_REQUIRE_PEERS=1 says that every optional package is installed: a test that skips itself then fails."""

import os

import pytest

REQUIRE_PEERS = os.environ.get("FASTBPTT_REQUIRE_PEERS") == "1"


def refuse_skip(report):
    """A skipped report becomes a failed one."""
    if REQUIRE_PEERS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and FASTBPTT_REQUIRE_PEERS=1 forbids that: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return refuse_skip((yield))
