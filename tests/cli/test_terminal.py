"""What a shell sees of the commands: pipes that close, terminals of ASCII, signals, names with escape sequences."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.cli import main
from fastbptt.commands import interrupt
from fastbptt.commands.common import for_terminal

COMMAND = [sys.executable, "-W", "error", "-m", "fastbptt"]
SMALL = ("--cell", "rnn", "--hidden", "12", "--window", "20", "--batch", "4", "--evaluate-every", "50")


@pytest.fixture
def model(tmp_path):
    model = fb.SequenceModel(fb.RNN(3, 4), 3)
    fb.save_model(tmp_path / "m.npz", model, model.init(seed=0), fb.Vocabulary("\x1bé\U0001f600"))
    return tmp_path / "m.npz"


def closed_pipe(*arguments):
    """Status and errors of a command whose reader goes after the first bytes."""
    with subprocess.Popen([*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.read(process.stdout.fileno(), 1)
        process.stdout.close()
        error = process.stderr.read().decode()
        return process.wait(timeout=60), error


def test_a_reader_that_goes_is_no_error(model, tmp_path):
    assert closed_pipe("sample", model, "--length", 5000) == (141, "")
    (tmp_path / "t.txt").write_text("abc " * 500)
    assert closed_pipe("train", "--text", tmp_path / "t.txt", *SMALL, "--seconds", 60, "--out", tmp_path / "run") == (141, "")
    with np.load(tmp_path / "run" / "checkpoint.npz") as archive:      # and the run goes on from where it was
        assert "params.0" in archive.files
    assert main(["train", "--resume", str(tmp_path / "run"), "--epochs", "1"]) == 0


def test_a_full_device_is_one_line():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "info"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("fastbptt: ") and "No space left" in done.stderr


@pytest.mark.parametrize("command", [
    ("sample", "m.npz", "--length", "30"), ("train", "--text", "tëxt.txt", *SMALL, "--epochs", "1", "--out", "run"),
    ("diagnose", "--text", "tëxt.txt", "--steps", "20"), ("demo", "--text", "tëxt.txt", "--seconds", "0.1", "--out", "demo")])
def test_a_terminal_of_ascii(model, command):
    (model.parent / "tëxt.txt").write_text("ä😀b\n" * 100, encoding="utf-8")
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([*COMMAND, *command], cwd=model.parent, env=env, capture_output=True, timeout=120)
    assert done.returncode == 0 and done.stdout.isascii() and done.stdout and not done.stderr, done.stderr


def test_names_reach_the_terminal_in_print(tmp_path, capsys):
    """Of files and of members of archives; in one line whatever they hold."""
    name = "a\x1b[31m\nb\x07.npz"
    (tmp_path / name).write_bytes(b"no archive")
    np.savez(tmp_path / "e.npz", **{"x\x1b[2J": np.ones(3)})
    text = tmp_path / "\x1b]0;title\x07.txt"
    text.write_text("abc " * 100)
    calls = [("sample", name), ("diagnose", name), ("train", "--npz", name), ("train", "--npz", "e.npz"),
             ("train", "--text", name)]
    for command, *arguments in calls:
        arguments[-1] = str(tmp_path / arguments[-1])
        assert main([command, *arguments, *(() if command != "train" else ("--out", str(tmp_path / "run")))]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and error[:-1].isprintable(), error
    assert main(["train", "--text", str(text), *SMALL, "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    assert "\x1b]0" not in capsys.readouterr().out


def test_a_model_cannot_drive_the_terminal(monkeypatch):
    text = "a\x1b[2J\x9b\x07é\n\t😀"
    assert for_terminal(text) == text
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert for_terminal(text) == "a\\x1b[2J\\x9b\\x07é\n\t😀"


def test_any_thread_may_call_main(tmp_path):
    (tmp_path / "t.txt").write_text("abc " * 200)
    found = []
    thread = threading.Thread(target=lambda: found.append(main(
        ["train", "--text", str(tmp_path / "t.txt"), *SMALL, "--epochs", "1", "--out", str(tmp_path / "run")])))
    thread.start()
    thread.join()
    assert found == [0] and (tmp_path / "run" / "model.npz").exists()


@pytest.mark.parametrize("delay", [0.08, 0.15, 0.3])
def test_interrupt_while_it_starts_is_no_traceback(delay):
    process = subprocess.Popen([*COMMAND, "gradcheck"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    # Before the package is reached, in the first hundredths of a second, the interpreter itself answers.
    assert process.returncode in (130, -signal.SIGINT) and ("Traceback" not in error or "fastbptt" not in error), error


def test_signals_of_others_stay(monkeypatch):
    def mine(*_):
        pass
    before = signal.signal(signal.SIGINT, mine)
    try:
        interrupt.end_quietly()
        assert signal.getsignal(signal.SIGINT) is mine
        interrupt.raise_again()
        assert signal.getsignal(signal.SIGINT) is mine
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupt.end_quietly()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        interrupt.raise_again()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("program", "line", "found"), [
    ("/usr/bin/fastbptt", ["python3", "/usr/bin/fastbptt", "info"], True), ("-m", ["python", "-m", "fastbptt", "info"], True),
    ("fastbptt.exe", ["fastbptt.exe"], True), ("pytest", ["python", "-m", "pytest", "fastbptt"], False), ("", ["python"], False),
    ("train.py", ["python", "train.py"], False)])
def test_which_process_is_a_command(program, line, found):
    assert interrupt.started_as_command(program, line) is found


def test_too_large_for_the_memory_is_one_line(tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise MemoryError("Unable to allocate 149. GiB")
    monkeypatch.setattr("fastbptt.runs.start._initial", refuse)
    (tmp_path / "t.txt").write_text("abc " * 200)
    assert main(["train", "--text", str(tmp_path / "t.txt"), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == ("fastbptt: train needs more memory than there is (Unable to allocate 149. GiB); "
                                       "choose smaller sizes\n")
