"""`fastbptt train` and `sample` as a user types them: goes on bit for bit, leaves what was good, says what is wrong."""
from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.cli import main

COMMAND = [sys.executable, "-W", "error", "-m", "fastbptt"]
SMALL = ("--cell", "rnn", "--hidden", "12", "--window", "20", "--batch", "4", "--evaluate-every", "50")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "t.txt"
    path.write_text("".join(np.random.default_rng(0).choice(["the ", "fox ", "über ", "dog.\n"], 3000)), encoding="utf-8")
    return path


def train(*arguments):
    return main(["train", *map(str, arguments)])


def arrays(folder, name="checkpoint.npz"):
    with np.load(folder / name) as archive:
        return {key: archive[key] for key in archive.files if key != "header"}


def header(folder):
    with np.load(folder / "checkpoint.npz") as archive:
        return json.loads(archive["header"].tobytes())


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(folder):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines(folder)]


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):
    """A run that was never interrupted, with all that changes over time: dropout, schedule, truncation, state."""
    out = tmp_path_factory.mktemp("whole")
    options = (*SMALL, "--layers", 2, "--dropout", 0.2, "--truncate", "8,4", "--schedule", "cosine", "--epochs", 4, "--seed", 3)
    assert train("--text", text, *options, "--out", out) == 0
    return options, out


def test_leaves_metrics_curves_and_a_model(whole, capsys):
    _, out = whole
    assert {p.name for p in out.iterdir()} == {"checkpoint.npz", "model.npz", "best.npz", "metrics.jsonl", "curves.png"}
    held_out = [line["held_out"] for line in lines(out) if "held_out" in line]
    losses = [line["loss"] for line in lines(out) if "loss" in line]
    assert held_out[-1] < 0.7 * held_out[0] and losses[-1] < 0.7 * losses[0]
    assert (out / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["sample", str(out / "model.npz"), "--prime", "the ", "--length", "40", "--seed", "1"]) == 0
    first = capsys.readouterr().out
    main(["sample", str(out / "model.npz"), "--prime", "the ", "--length", "40", "--seed", "1"])
    assert capsys.readouterr().out == first and first.startswith("the ") and len(first) == 45
    main(["sample", str(out / "model.npz"), "--prime", "the ", "--length", "40", "--seed", "2"])
    assert capsys.readouterr().out != first
    main(["sample", str(out / "model.npz"), "--prime", "the ", "--length", "40", "--temperature", "9", "--seed", "1"])
    assert capsys.readouterr().out != first


def test_kill_at_any_moment_and_resume(text, whole, tmp_path):
    """kill -9, several times, at moments that are not chosen; then to the end: the same weights, the same metrics."""
    options, wanted = whole
    out = tmp_path / "run"
    command = [*COMMAND, "train", "--text", str(text), *map(str, options), "--out", str(out), "--save-every", "0.02"]
    rng, seen = np.random.default_rng(), []
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not (out / "checkpoint.npz").exists() or (seen and (out / "checkpoint.npz").stat().st_mtime_ns == seen[-1]):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
        seen.append((out / "checkpoint.npz").stat().st_mtime_ns)
        command = [*COMMAND, "train", "--resume", str(out), "--save-every", "0.02"]
    assert header(out)["number"] < header(wanted)["number"]
    assert train("--resume", out) == 0
    for name in ("checkpoint.npz", "model.npz", "best.npz"):
        one, other = arrays(out, name), arrays(wanted, name)
        assert one.keys() == other.keys() and all(one[key].tobytes() == other[key].tobytes() for key in one)
    assert without_times(out) == without_times(wanted)


def test_the_best_on_the_held_out_tenth_is_kept(text, tmp_path, capsys):
    """With a rate at which it gets worse again."""
    options = (*SMALL, "--evaluate-every", 10, "--optimizer", "sgd", "--lr", 30, "--clip", 5, "--epochs", 1)
    assert train("--text", text, *options, "--out", tmp_path) == 0
    found = {line["update"]: line["held_out"] for line in lines(tmp_path) if "held_out" in line}
    at = min(found, key=found.get)
    assert at < max(found) and f"best.npz (update {at}, {found[at]:.4f})" in " ".join(capsys.readouterr().out.split())
    model, params, vocabulary = fb.load_model(tmp_path / "best.npz")
    source = fb.TextFile(text, vocabulary)
    held_out = source.part(len(source) - len(source) // 10, len(source))
    loss = fb.evaluate(model, params, fb.stream(held_out, batch=4, window=256))
    np.testing.assert_allclose(loss / np.log(2), found[at], rtol=1e-6)


def test_a_run_goes_on_beyond_its_end(text, tmp_path):
    """One epoch and then a second one: what two epochs give."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert train("--text", text, *SMALL, "--epochs", 1, "--out", one) == 0
    assert train("--resume", one, "--epochs", 2) == 0
    assert train("--text", text, *SMALL, "--epochs", 2, "--out", two) == 0
    assert all(a.tobytes() == arrays(two)[key].tobytes() for key, a in arrays(one).items())
    found = [(line["held_out"], line["update"]) for line in lines(one) if "held_out" in line]
    assert header(one)["best"] == list(min(found))[::-1]
    before = (one / "metrics.jsonl").read_bytes()
    assert train("--resume", one) == train("--resume", one, "--seconds", 0.001) == train("--resume", one) == 0
    assert (one / "metrics.jsonl").read_bytes() == before
    assert header(one)["settings"]["seconds"] == 0.001 and header(one)["settings"]["epochs"] is None


def test_interrupt_saves_and_leaves_with_130(text, tmp_path):
    command = [*COMMAND, "train", "--text", str(text), *SMALL, "--seconds", "300", "--save-every", "0.1", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "checkpoint.npz").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and len(error.strip().splitlines()) == 1 and "--resume" in error, error
    assert f"update {header(tmp_path)['number']} is saved" in error


FULL_DISK = """
import errno, sys
import numpy as np
from fastbptt.cli import main
count, save = 0, np.savez
def full(file, **arrays):
    global count
    count += 1
    if count > 2:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")
    save(file, **arrays)
np.savez = full
sys.exit(main(sys.argv[1:]))
"""


def test_full_disk_is_one_line_and_the_last_checkpoint_stays(text, tmp_path):
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, "train", "--text", str(text), *SMALL, "--seconds", "300"]
    command += ["--evaluate-every", "1000000", "--save-every", "0.01", "--out", str(tmp_path)]     # nothing but checkpoints
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "No space left on device" in done.stderr and "stays" in done.stderr and "--resume" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.npz", "metrics.jsonl"]
    assert f"update {header(tmp_path)['number']} stays" in done.stderr


def test_arrays_and_measured_truncation(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 3)).astype(np.float32)
    y = np.concatenate([np.zeros((2, 1)), x[:-2, :1]]).astype(np.float32)         # the input of two steps before
    np.savez(tmp_path / "d.npz", x=x, y=y)
    out = tmp_path / "run"
    assert train("--npz", tmp_path / "d.npz", *SMALL, "--epochs", 8, "--truncate", "auto", "--out", out, "--lr", 0.01) == 0
    with np.load(out / "checkpoint.npz") as archive:
        horizon, stride = json.loads(archive["header"].tobytes())["truncation"]
    assert 3 <= stride < 10 and horizon == 2 * stride
    held_out = [line["held_out"] for line in lines(out) if "held_out" in line]
    assert held_out[-1] < 0.05
    np.savez(tmp_path / "ids.npz", ids=np.tile([0, 1, 1, 2], 300))
    assert train("--npz", tmp_path / "ids.npz", *SMALL, "--epochs", 1, "--out", tmp_path / "ids") == 0


@pytest.mark.parametrize("option", [("--hidden", 13), ("--layers", 2), ("--window", 21), ("--batch", 5), ("--clip", 0.01),
                                    ("--optimizer", "sgd"), ("--lr", 0.01), ("--schedule", "cosine"), ("--epochs", 2),
                                    ("--seed", 1), ("--truncate", 3), ("--truncate", "4,1"), ("--cell", "gru")])
def test_every_option_counts(option, text, tmp_path, plain):
    assert train("--text", text, *SMALL, "--epochs", 1, *option, "--out", tmp_path) == 0
    one, other = arrays(tmp_path), plain
    assert one.keys() != other.keys() or any(one[k].tobytes() != other[k].tobytes() for k in one if k.startswith("params"))


@pytest.fixture(scope="module")
def plain(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("plain")
    assert train("--text", text, *SMALL, "--epochs", 1, "--out", out) == 0
    return arrays(out)


@pytest.mark.parametrize(("arguments", "message"), [
    (("--text", "none.txt"), "No such file"),
    (("--text", "t.txt", "--out", "t.txt"), "--out: "),
    (("--text", "t.txt", "--out", "run"), "--resume run"),
    (("--text", "one.txt"), "at least two different characters"),
    (("--text", "bytes.txt"), "UTF-8"),
    (("--text", "short.txt"), "at least 20 steps"),
    (("--text", "t.txt", "--batch", "40000"), "batch"),
    (("--npz", "t.txt"), "an npz file"),
    (("--npz", "z.npz"), "got z (4,)"),
    (("--text", "t.txt", "--cell", "cnn"), "--cell: "),
    (("--text", "t.txt", "--dropout", "0.5"), "--layers 2"),
    (("--text", "t.txt", "--truncate", "3,4"), "stride"),
    (("--text", "t.txt", "--truncate", "x"), "--truncate: "),
    (("--text", "t.txt", "--schedule", "cosine", "--seconds", "5"), "--epochs"),
    (("--text", "t.txt", "--seconds", "0"), "--seconds"),
    (("--text", "t.txt", "--save-every", "0"), "--save-every"),
    (("--resume", "empty"), "checkpoint.npz"),
    (("--resume", "broken"), "damaged or foreign"),
    (("--resume", "run", "--lr", "1"), "--lr: "),
    (("--resume", "cosine", "--epochs", "9"), "cosine"),
    (("--resume", "run"), "other contents"),
])
def test_refused_in_one_line(arguments, message, text, tmp_path, capsys, monkeypatch, plain_folder, whole):
    monkeypatch.chdir(tmp_path)
    for name, content in (("t.txt", text.read_bytes()), ("one.txt", b"a" * 50), ("bytes.txt", b"\xff" * 50),
                          ("short.txt", b"abc")):
        (tmp_path / name).write_bytes(content)
    np.savez("z.npz", z=np.arange(4))
    for name in ("empty", "broken", "run", "cosine"):
        (tmp_path / name).mkdir()
    checkpoint = (plain_folder / "checkpoint.npz").read_bytes()
    (tmp_path / "broken" / "checkpoint.npz").write_bytes(checkpoint[:len(checkpoint) // 2])
    (tmp_path / "run" / "checkpoint.npz").write_bytes(checkpoint)
    (tmp_path / "cosine" / "checkpoint.npz").write_bytes((whole[1] / "checkpoint.npz").read_bytes())
    assert train(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and message in error, error
    assert not (tmp_path / "fastbptt-train").exists()


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory):
    """A finished run whose text has changed since."""
    folder = tmp_path_factory.mktemp("changed")
    (folder / "t.txt").write_text("ab c" * 30)
    assert train("--text", folder / "t.txt", *SMALL, "--epochs", 1, "--out", folder / "run") == 0
    (folder / "t.txt").write_text("ab d" * 30)
    return folder / "run"


@pytest.mark.parametrize(("arguments", "message"), [
    (("--prime", "Ж"), "--prime: "), (("--prime", ""), "--prime: "), (("--temperature", "0"), "--temperature: "),
    (("--length", "0"), "--length: "), (("--seed", "-1"), "--seed: ")])
def test_sample_refuses_in_one_line(arguments, message, plain_folder, capsys):
    assert main(["sample", str(plain_folder / "model.npz"), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and message in error, error


def test_unwritable_folder_is_one_line(text, tmp_path, capsys, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert train("--text", text, "--out", tmp_path / "run") == 2
    assert capsys.readouterr().err.strip().endswith("(Permission denied)")
