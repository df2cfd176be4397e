"""Streams: every step once and in order, from any source; the state carried on; going on from a position."""
from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest

import fastbptt as fb

MODEL = fb.SequenceModel(fb.RNN(5, 6), 5)


def same(given, wanted):
    given, wanted = list(given), list(wanted)
    assert len(given) == len(wanted)
    for a, b in zip(given, wanted, strict=True):
        assert np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y) and a.fresh == b.fresh


@pytest.mark.parametrize(("n", "batch", "window"), [(23, 1, 4), (23, 3, 4), (101, 7, 5), (8, 7, 9), (41, 4, 5)])
def test_lanes_are_contiguous(n, batch, window):
    ids = np.arange(n, dtype=np.int32) % 5
    windows = list(fb.stream(ids, batch, window))
    steps = (n - 1) // batch
    x, y = (np.concatenate(parts) for parts in zip(*[w[:2] for w in windows], strict=True))
    assert np.array_equal(x.T.ravel(), ids[:batch * steps]) and np.array_equal(y.T.ravel(), ids[1:batch * steps + 1])
    assert [w.fresh for w in windows] == [True] + [False] * (len(windows) - 1)
    assert [len(w.x) for w in windows[:-1]] == [window] * (len(windows) - 1)
    assert len(windows) == len(fb.stream(ids, batch, window))


def test_sources_agree(tmp_path):
    text = "däß 🙂\r\n" * 3000 + "s"
    vocabulary = fb.Vocabulary.from_text(text)
    (tmp_path / "t.txt").write_bytes(text.encode())
    ids = vocabulary.encode(text)
    np.save(tmp_path / "ids.npy", ids.astype(np.uint8))
    wanted = list(fb.stream(ids, 4, 50))
    same(fb.stream(tmp_path / "t.txt", 4, 50), wanted)
    same(fb.stream(str(tmp_path / "t.txt"), 4, 50, vocabulary=vocabulary), wanted)
    same(fb.stream(np.load(tmp_path / "ids.npy", mmap_mode="r"), 4, 50), wanted)
    lanes = np.stack([ids[b * (len(ids) - 1) // 4:][:(len(ids) - 1) // 4 + 1] for b in range(4)], axis=1)
    for size in (1, 7, 50, 1000):
        same(fb.stream((lanes[i:i + size] for i in range(0, len(lanes), size)), 4, 50), wanted)


def test_text_file_slices(tmp_path):
    text = "".join(chr(c) for c in np.random.default_rng(0).choice([65, 66, 233, 8364, 128578, 10, 13], 30000))
    (tmp_path / "t.txt").write_bytes(text.encode())
    file = fb.TextFile(tmp_path / "t.txt")
    ids = file.vocabulary.encode(text)
    assert len(file) == 30000 and file.vocabulary == fb.Vocabulary.from_text(text)
    for start, stop in [(0, 0), (0, 1), (4095, 4097), (4096, 8192), (29999, 30000), (100, 29000), (-5, None), (50, 20)]:
        assert np.array_equal(file[start:stop], ids[start:stop])
    assert np.array_equal(file.part(5000, 9000)[100:-1], ids[5100:8999])


def test_text_file_reads_in_blocks(tmp_path, monkeypatch):
    text = "aé€🙂" * 40
    (tmp_path / "t.txt").write_bytes(text.encode())
    for block, spacing in itertools.product((1, 3, 7, 64), (1, 5, 16)):
        monkeypatch.setattr("fastbptt.training.text.BLOCK", block)
        monkeypatch.setattr("fastbptt.training.text.SPACING", spacing)
        file = fb.TextFile(tmp_path / "t.txt")
        assert file.vocabulary.decode(file[3:150]) == text[3:150]


def test_pairs(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32), np.arange(21)
    windows = list(fb.stream((x, y), 2, 4))
    assert np.array_equal(np.concatenate([w.x for w in windows])[:, 1], x[10:20])
    assert np.array_equal(np.concatenate([w.y for w in windows])[:, 0], y[:10])
    chunks = ((x[:20].reshape(2, 10, 3).swapaxes(0, 1)[i:i + 3], y[:20].reshape(2, 10).T[i:i + 3]) for i in range(0, 10, 3))
    same(fb.stream(chunks, 2, 4), windows)


@pytest.mark.parametrize(("n", "batch", "size"), [(101, 2, 3), (23, 1, 4), (97, 3, 2), (9, 1, 8)])
def test_shards_are_the_lanes_of_one_stream(n, batch, size, tmp_path):
    """As many windows on every worker, whatever remains; from ids, pairs and texts; going on from a position."""
    ids = np.arange(n) % 26
    (tmp_path / "t.txt").write_text("".join(chr(97 + i) for i in ids))
    x = np.random.default_rng(0).normal(size=(n, 2))
    for source in (ids, (x, ids), tmp_path / "t.txt"):
        whole = list(fb.stream(source, batch * size, 4, epochs=2))
        shards = [list(fb.stream(source, batch, 4, epochs=2, shard=(rank, size))) for rank in range(size)]
        together = [type(parts[0])(*(np.concatenate(arrays, axis=1) for arrays in zip(*(p[:2] for p in parts), strict=True)),
                                   parts[0].fresh) for parts in zip(*shards, strict=True)]
        same(together, whole)
        first = fb.stream(source, batch, 4, epochs=2, shard=(size - 1, size))
        head = [next(first)]
        assert first.shard == (size - 1, size) and len(first) == len(fb.stream(source, batch * size, 4))
        same([*head, *fb.stream(source, batch, 4, epochs=2, shard=(size - 1, size), position=first.position)], shards[-1])


def test_position_goes_on():
    ids = np.arange(47) % 5
    whole = list(fb.stream(ids, 3, 4, epochs=3))
    for n in (0, 1, 3, 4, 5, 9):
        first = fb.stream(ids, 3, 4, epochs=3)
        head = list(itertools.islice(first, n))
        same([*head, *fb.stream(ids, 3, 4, epochs=3, position=first.position)], whole)
    fed = fb.stream((ids[i:i + 1, None] for i in range(47)), 1, 4)
    head = list(itertools.islice(fed, 5))
    same([*head, *fb.stream((ids[i:i + 3, None] for i in range(0, 47, 3)), 1, 4, position=fed.position)], fb.stream(ids, 1, 4))


def test_state_is_carried():
    """Windows with the state carried on are one forward pass: the losses are those of the whole, cut nowhere."""
    ids = np.random.default_rng(0).integers(0, 5, 61)
    params = MODEL.init(seed=1, dtype=np.float64)
    x, y = (np.stack([ids[s + k:s + k + 20] for s in (0, 20, 40)], axis=1) for k in (0, 1))
    whole = MODEL.loss(params, x, y, reduction="mean")
    assert fb.evaluate(MODEL, params, fb.stream(ids, 3, 7)) == pytest.approx(whole, rel=1e-12)
    frozen = fb.fit(MODEL, params, fb.stream(ids, 3, 5), fb.SGD(1e-300))
    assert np.mean(frozen.losses) == pytest.approx(whole, rel=1e-12)
    tape = fb.forward(MODEL.cell, params.cell, x)
    assert np.allclose(frozen.state.h, tape.final.h, rtol=0, atol=1e-14)
    again = fb.fit(MODEL, params, fb.stream(ids, 3, 5, epochs=2), fb.SGD(1e-300))
    assert np.allclose(again.losses[4:], frozen.losses, rtol=1e-12, atol=0)       # every pass begins with zeros


def test_fit_goes_on_in_a_stream():
    ids = np.random.default_rng(0).integers(0, 5, 400)
    model = fb.SequenceModel(fb.Stack([fb.RNN(5, 6), fb.RNN(6, 6)], dropout=0.3), 5)
    options = {"truncation": fb.Truncation(3), "clip": 0.5, "seed": 3, "schedule": fb.Cosine(20, 4),
               "evaluation": lambda params: fb.evaluate(model, params, fb.stream(ids, 2, 50)), "every": 3}
    opt = fb.Adam(0.01)
    whole = fb.fit(model, model.init(seed=0), fb.stream(ids, 2, 10, epochs=2), opt, steps=25, **options)
    stream = fb.stream(ids, 2, 10, epochs=2)
    steps = []
    fb.fit(model, model.init(seed=0), stream, opt, steps=8, callback=steps.append, **options)
    last = steps[-1]
    rest = fb.fit(model, last.params, fb.stream(ids, 2, 10, epochs=2, position=stream.position), opt, steps=17,
                  opt_state=last.opt_state, state=last.state, done=last.number, **options)
    assert [s.loss for s in steps] + rest.losses == whole.losses
    assert [(s.number, s.evaluation) for s in steps if s.evaluation is not None] + rest.evaluations == whole.evaluations
    assert [k for k, _ in whole.evaluations] == list(range(3, 25, 3))
    assert all(np.array_equal(a, b) for a, b in zip(rest.params.cell[1], whole.params.cell[1], strict=True))
    other = fb.fit(model, model.init(seed=0), fb.stream(ids, 2, 10), opt, steps=3, **{**options, "seed": 4})
    assert other.losses[0] != whole.losses[0]


def test_schedule_scales_the_rate():
    ids, params = np.arange(60) % 5, MODEL.init(seed=0)
    plain = fb.fit(MODEL, params, fb.stream(ids, 1, 5), fb.SGD(0.05), steps=4)
    halved = fb.fit(MODEL, params, fb.stream(ids, 1, 5), fb.SGD(0.1), steps=4, schedule=lambda k: 0.5)
    assert np.array_equal(plain.params.cell.W, halved.params.cell.W)


def test_memory_does_not_grow(tmp_path):
    """2 MB of text, 16 MB of ids: 128 KiB are enough for all windows."""
    (tmp_path / "t.txt").write_text("the quick brown fox. " * 100_000)
    stream = fb.stream(tmp_path / "t.txt", 8, 64)
    next(stream)
    tracemalloc.start()
    for _ in itertools.islice(stream, 400):
        pass
    assert tracemalloc.get_traced_memory()[1] < 2**17
    tracemalloc.stop()


@pytest.mark.parametrize(("call", "message"), [
    (lambda p: fb.stream(np.arange(5), 5, 3), "source: expected at least 6 steps"),
    (lambda p: fb.stream(np.arange(5), 0, 3), "batch: "),
    (lambda p: fb.stream(np.arange(5), 1, 0), "window: "),
    (lambda p: fb.stream(np.arange(5), 1, 2, epochs=0), "epochs: "),
    (lambda p: fb.stream(np.ones(5), 1, 2), "source: expected integer ids"),
    (lambda p: fb.stream((np.ones((5, 2)), np.ones(4)), 1, 2), "source: expected x and y"),
    (lambda p: fb.stream(np.arange(5), 1, 2, position=(0, 4)), "position: expected a step below 4"),
    (lambda p: fb.stream(iter([np.arange(4)]), 1, 2, epochs=2), "epochs: expected 1 for an iterator"),
    (lambda p: next(fb.stream(iter([np.arange(4)]), 1, 2)), "source: expected chunks"),
    (lambda p: fb.stream(np.arange(5), 1, 2, vocabulary=fb.Vocabulary("ab")), "vocabulary: expected None"),
    (lambda p: fb.stream(p / "t.txt", 1, 2, vocabulary=fb.Vocabulary("ab")), "expected characters of a vocabulary of 2, got 'c'"),
    (lambda p: fb.stream(p / "empty.txt", 1, 2), "expected at least one character"),
    (lambda p: fb.stream(p / "latin.txt", 1, 2), "expected UTF-8, got the byte 0xe9 at 3"),
    (lambda p: fb.stream(p / "cut.txt", 1, 2), "expected UTF-8, got the byte 0xc3 at 3"),
    (lambda p: fb.evaluate(MODEL, MODEL.init(), iter([])), "stream: expected at least one window"),
    (lambda p: fb.evaluate(MODEL, MODEL.init(), fb.stream(np.arange(5), 1, 2, epochs=None)), "stream: expected one with an end"),
    (lambda p: next(fb.stream(iter([(np.ones((5, 2, 1)), np.ones((3, 2)))]), 2, 4)), "as many steps of x as of y, got"),
    (lambda p: next(fb.stream(iter([(np.ones((5, 2)),) * 3]), 2, 4)), "as many steps of x as of y, got"),
    (lambda p: list(fb.stream(iter([np.ones((2, 2), int), (np.ones((2, 2)),) * 2]), 2, 4)), "expected chunks of ids, got"),
    (lambda p: fb.fit(fb.SequenceModel(fb.RNN(5, 6), 5, mode="many_to_one"), None, fb.stream(np.arange(5), 1, 2), fb.SGD(1)),
     "many_to_many"),
    (lambda p: fb.fit(fb.SequenceModel(fb.Stack([fb.RNN(5, 6)], bidirectional=True), 5), MODEL.init(),
                      fb.stream(np.arange(5), 1, 2), fb.SGD(1), opt_state=()), "one direction"),
    (lambda p: fb.stream(np.arange(5), 2, 3, shard=(0, 3)), "at least 7 steps for batch=2 on each of 3 workers, got 5"),
    (lambda p: fb.stream(np.arange(9), 1, 3, shard=(2, 2)), "shard: expected a rank below the size 2, got 2"),
    (lambda p: fb.stream(np.arange(9), 1, 3, shard=(-1, 2)), "shard.0.: expected an integer of at least 0"),
    (lambda p: fb.stream(np.arange(9), 1, 3, shard=2), "shard: expected a pair"),
    (lambda p: fb.stream(iter([np.arange(4)[:, None]]), 1, 2, shard=(0, 1)), "shard: expected None for an iterator"),
    (lambda p: fb.Cosine(5, 5), "steps: "),
    (lambda p: fb.Cosine(5, floor=0), "floor: "),
])
def test_refused(tmp_path, call, message):
    (tmp_path / "t.txt").write_text("abc")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9s")
    (tmp_path / "cut.txt").write_bytes(b"caf\xc3")
    with pytest.raises((ValueError, TypeError), match=message):
        call(tmp_path)
