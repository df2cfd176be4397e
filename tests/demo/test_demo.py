"""The demo on a small text: what it writes and finds, and what it refuses before it starts."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastbptt as fb
from fastbptt import demo
from fastbptt.cli import main
from fastbptt.demo.growth import LENGTHS, measure_growth, products_per_step
from fastbptt.demo.train import FORMS, held_out_bits

TEXT = "the quick brown fox jumps over the lazy dog. " * 60


@pytest.fixture(scope="module")
def report():
    return demo.run_demo(demo.Corpus.from_text(TEXT, "foxes"), 1.5, lambda what, spent: None)


def test_command_writes_picture_and_weights(tmp_path, capsys):
    (tmp_path / "$_$\u5b57.txt").write_text(TEXT + "[bold]" + "x" * 30 + "\u5b57", encoding="utf-8")
    out = tmp_path / "a" / "b"
    assert main(["demo", "--text", str(tmp_path / "$_$\u5b57.txt"), "--seconds", "0.2", "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "$_$\u5b57.txt: 2,737 characters, 31 different ones; 2,464 to train on" in printed
    assert "the last 273 held out (3 characters occur only there)" in printed
    assert all(form in printed for form in FORMS) and "T = 8,192" in printed
    assert sorted(p.name for p in out.iterdir()) == ["demo.png", "model.npz"]
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")
    model, params, vocabulary = fb.load_model(out / "model.npz")
    assert vocabulary.characters == "".join(sorted(set(TEXT + "[]\u5b57")))
    assert model.predict(params, vocabulary.encode("the fox")[:, None]).shape == (7, 1, 31)


def test_figures(report):
    full, chunks, window = report.trained.courses
    for course in (full, chunks, window):
        assert course.bits[0] == pytest.approx(np.log2(len(set(TEXT))), abs=0.5) and course.bits[-1] < 0.8 * course.bits[0]
        assert len(course.seconds) == report.trained.updates[-1] and min(course.seconds) > 0
        assert len(course.bits) == len(course.cosine) == len(report.trained.updates)
    assert full.cosine == pytest.approx([1.0] * len(full.cosine))
    assert 0.3 < chunks.cosine[0] < 0.999 and 0.3 < window.cosine[0] < 0.999
    assert {products_per_step(name) for name in FORMS} == {1.0, 8.0}
    assert all(min(s) > 0 and len(s) == len(LENGTHS) for s in report.growth.seconds.values())

    def looks():
        yield report.growth
        for _ in range(4):      # on a busy machine one look proves nothing
            yield measure_growth(report.trained.model, full.params, report.corpus.train)
    assert any(growth.seconds["full"][-1] > 4 * growth.seconds["full"][0] for growth in looks())


def test_bits_are_those_of_the_whole_held_out_part(report):
    """One piece: the mean over all characters but the first, from the predictions."""
    model, params = report.trained.model, report.trained.courses[0].params
    ids = report.corpus.held_out[:100]
    y = model.predict(params, ids[:-1, None])[:, 0]
    want = -np.log2(y[np.arange(99), ids[1:]]).mean()
    assert held_out_bits(model, params, ids) == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("costs", [(9, 3, 5), (9, 9, 9), (3, 5, 9), (9, 8.9, 8.8)])
@pytest.mark.parametrize("name", ["foxes", "a very long name of a text " * 3])
def test_no_label_of_the_picture_lies_over_another_or_over_a_title(report, costs, name):
    pytest.importorskip("matplotlib")
    from fastbptt.demo.plot import make_figure
    growth = replace(report.growth, seconds={form: [k * T * 1e-6 for T in LENGTHS] for form, k in zip(FORMS, costs, strict=True)})
    figure = make_figure(replace(report, growth=growth, corpus=replace(report.corpus, name=name)))
    inside = figure.bbox.padded(1)
    for axis in figure.axes:
        boxes = [text.get_window_extent() for text in axis.texts]
        assert len(boxes) >= 3
        for k, box in enumerate(boxes):
            assert not box.overlaps(axis._left_title.get_window_extent())
            assert not any(box.overlaps(other) for other in boxes[:k])
            assert inside.x0 <= box.x0 and box.x1 <= inside.x1 and box.y1 <= axis.bbox.y1 + 3
            for other in figure.axes:
                assert other is axis or not box.overlaps(other.bbox)


def test_sample_continues_the_held_out_text(report):
    prompt, written = report.sample
    assert report.corpus.vocabulary.decode(report.corpus.held_out).startswith(prompt)
    assert len(written) > 200 and set(written) <= set(TEXT)


def test_markdown(report):
    text = report.markdown()
    assert text.count("| full |") == 2 and "| window of 8 | 8 |" in text and "updates each" in text


@pytest.mark.parametrize(("content", "message"), [
    (None, "No such file"), (b"", "at least one character"), (b"ab" * 71, "at least 143 characters.* got 142"),
    (b"a" * 500, "two different"),
    (b"caf\xe9 " * 100, "expected UTF-8, .* byte 0xe9 at 3"),
])
def test_bad_text(tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "t").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    assert main(["demo", "--text", str(tmp_path / "t"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and pytest.raises((ValueError, OSError), demo.read_text, tmp_path / "t").match(message)
    assert sorted(tmp_path.iterdir()) == before


def test_shortest_text_is_accepted():
    corpus = demo.Corpus.from_text("ab" * 71 + "a", "ab")
    assert corpus.train.size == 129 and corpus.held_out.size == 14


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--seconds", "nan"], ["--seconds", "inf"]])
def test_bad_seconds(tmp_path, capsys, arguments):
    assert main(["demo", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert "--seconds: expected" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_folder_that_cannot_be_written_is_refused_before_training(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        assert main(["demo", "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert "--out: expected a folder that can be written" in error and len(error.splitlines()) == 1


def test_interruption_says_so(tmp_path, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt
    monkeypatch.setattr(demo, "train", interrupted)
    assert main(["demo", "--out", str(tmp_path / "out")]) == 130
    assert "demo interrupted" in capsys.readouterr().err and not list(tmp_path.iterdir())
