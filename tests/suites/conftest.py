"""`pytest tests/suites --table` prints, for docs/correctness.md, how many cases of each suite ran and how many are refused."""
from __future__ import annotations

from collections import Counter
from importlib.metadata import PackageNotFoundError, version

SUITES = {
    "test_onnx_nodes": ("node cases", "onnx"),
    "test_torch_modules": ("module samples, in two dtypes; packed sequences", "torch"),
    "test_keras_golden": ("golden arrays of the layers' tests", "keras"),
    "test_jax_lstm": ("`jax.experimental.rnn.lstm_ref` with lengths, layers, directions", "jax"),
}
OWN = "_are_here"       # tests that count instead of comparing
passed: Counter[str] = Counter()
refused: Counter[str] = Counter()


def pytest_addoption(parser):
    parser.addoption("--table", action="store_true", help="print the table of foreign suites")


def pytest_runtest_logreport(report):
    """Each case counts once, or as often as it says by record_property("cases", n)."""
    path, _, test = report.nodeid.partition("::")
    suite = path.rpartition("/")[2].removesuffix(".py")
    if suite in SUITES and report.when == "call" and report.passed and OWN not in test:
        cases = dict(report.user_properties).get("cases", 1)
        (refused if "refused" in test else passed)[suite] += cases


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption("--table", default=False):
        return
    write = terminalreporter.write_line
    write("| suite | of | cases equal | refused |")
    write("|---|---|---|---|")
    for suite, (title, package) in SUITES.items():
        try:
            write(f"| {title} | {package} {version(package)} | {passed[suite]} | {refused[suite]} |")
        except PackageNotFoundError:
            write(f"| {title} | {package}, not installed | | |")
