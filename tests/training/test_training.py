"""Model, losses, optimisers, clipping, padding: against the oracle, by differences, and on the worked cases."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb
from fastbptt import reference as ref
from fastbptt.tree import global_norm, leaves, tree_map

LOSSES = ("squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy")


def problem(loss, mode, seed=0, T=7, B=4):
    rng = np.random.default_rng(seed)
    model = fb.SequenceModel(fb.RNN(3, 5), 4, loss, mode)
    params = model.init(seed=seed, dtype=np.float64)
    x, lengths, weights = rng.normal(size=(T, B, 3)), rng.integers(1, T + 1, size=B), rng.choice([0, 0.5, 2.0], size=(T, B))
    lead = (T, B) if mode == "many_to_many" else (B,)
    y = rng.integers(0, 4, size=lead) if loss.startswith("softmax") else rng.random((*lead, 4))
    return model, params, x, y, lengths, weights


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("mode", ["many_to_many", "many_to_one"])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_and_gradient_equal_the_reference(loss, mode, reduction):
    model, params, x, y, lengths, weights = problem(loss, mode)
    got, grads = model.loss_and_grad(params, x, y, lengths, fb.Truncation(3, 2), weights=weights, reduction=reduction)
    tape = ref.forward("rnn", params.cell, x, None, lengths)
    z = ref.readout_forward(params.readout.V, params.readout.c, tape.h[1:])
    want, _, dz = ref.loss_and_grad(loss, z, y, lengths, weights, mode, reduction)
    assert got == pytest.approx(want, rel=1e-12)
    assert model.loss(params, x, y, lengths, weights=weights, reduction=reduction) == pytest.approx(want, rel=1e-12)
    wanted = ref.backward(tape, np.asarray(dz) @ params.readout.V, truncation=(3, 2))
    for a, b in zip(grads.cell, wanted.params.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(grads.readout.V, np.einsum("tbo,tbh->oh", dz, tape.h[1:]), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(grads.readout.c, np.asarray(dz).sum((0, 1)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_steps_that_do_not_count_are_not_read(loss):
    model, params, x, y, lengths, weights = problem(loss, "many_to_many")
    clean, grads = model.loss_and_grad(params, x, y, lengths, weights=weights)
    off = (np.arange(7)[:, None] >= lengths) | (weights == 0)
    y = y.copy()
    y[off] = -9 if y.ndim == 2 else np.nan
    x[np.arange(7)[:, None] >= lengths] = np.nan
    again, other = model.loss_and_grad(params, x, y, lengths, weights=weights)
    assert clean == again and np.array_equal(grads.cell.W, other.cell.W)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_finite_for_every_finite_logit(loss):
    model = fb.SequenceModel(fb.RNN(1, 1, "identity"), 2, loss)
    params = model.init(dtype=np.float64)
    params = params._replace(readout=fb.ReadoutParams(np.array([[1e3], [-1e3]]), np.zeros(2)))
    y = np.zeros((2, 1), int) if loss.startswith("softmax") else np.zeros((2, 1, 2))
    value, grads = model.loss_and_grad(params, np.full((2, 1, 1), 1.0), y)
    assert np.isfinite(value) and all(np.isfinite(a).all() for a in (*grads.cell, *grads.readout))


def test_float32_stays_float32():
    model = fb.SequenceModel(fb.RNN(3, 5), 2)
    params = model.init()
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    _, grads = model.loss_and_grad(params, x, np.ones((4, 2), int))
    for opt in (fb.SGD(0.1, 0.9), fb.Adam(0.1)):
        moved, _ = opt.update(params, grads, opt.init(params))
        assert all(a.dtype == np.float32 for a in (*moved.cell, *moved.readout, *grads.cell, *grads.readout))
    assert model.predict(params, x).dtype == np.float32


def train(model, x, y, lengths=None, steps=400, lr=0.02):
    params = model.init(seed=0)
    opt = fb.Adam(lr)
    state = opt.init(params)
    for _ in range(steps):
        _, grads = model.loss_and_grad(params, x, y, lengths)
        grads, _ = fb.clip_by_norm(grads, 5.0)
        params, state = opt.update(params, grads, state)
    return params, model.loss(params, x, y, lengths)


def test_autocompletion():
    """d → e → e → p → stop, and three words in one batch."""
    ids = np.array([[0], [1], [1], [2], [3]])
    assert train(fb.SequenceModel(fb.RNN(4, 12), 4), ids[:-1], ids[1:])[1] < 0.01
    words = ["learn", "deep", "machine"]
    letters = sorted(set("".join(words))) + ["stop"]
    coded = [[letters.index(c) for c in w] + [len(letters) - 1] for w in words]
    x, lengths = fb.pad([c[:-1] for c in coded])
    y, _ = fb.pad([c[1:] for c in coded])
    params, loss = train(fb.SequenceModel(fb.RNN(len(letters), 24), len(letters)), x, y, lengths, 600)
    assert loss < 0.05      # the first letter says which word it is: nothing is left to guess


def test_many_to_one():
    """Sequences of words with one answer, and the table of bits."""
    x = np.array([[0, 1, 0], [2, 2, 1], [1, 1, 0]]).T
    model = fb.SequenceModel(fb.RNN(3, 8), 1, "sigmoid_cross_entropy", "many_to_one")
    params, _ = train(model, x, np.array([[1.0], [1.0], [0.0]]))
    assert (model.predict(params, x).round()[:, 0] == [1, 1, 0]).all()
    bits = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 1]], np.float32).T[..., None]
    model = fb.SequenceModel(fb.RNN(1, 8), 1, "sigmoid_cross_entropy", "many_to_one")
    params, _ = train(model, bits, np.array([[1.0], [0.0], [0.0], [1.0]]), steps=800)
    assert (model.predict(params, bits).round()[:, 0] == [1, 0, 0, 1]).all()


def test_part_of_speech_tagger():
    """A tag for every word; what "saw" and "light" are is said by the words before them."""
    tagged = ["the/D man/N saw/V the/D light/N", "a/D saw/N lay/V", "the/D light/A saw/N lay/V", "men/N saw/V a/D man/N"]
    pairs = [[word.split("/") for word in line.split()] for line in tagged]
    words, tags = (sorted({p[k] for line in pairs for p in line}) for k in (0, 1))
    x, lengths = fb.pad([[words.index(word) for word, _ in line] for line in pairs])
    y, _ = fb.pad([[tags.index(tag) for _, tag in line] for line in pairs])
    model = fb.SequenceModel(fb.RNN(len(words), 12), len(tags))
    params, opt = model.init(seed=0), fb.Adam(0.02)
    fitted = fb.fit(model, params, [{"x": x, "y": y, "lengths": lengths}] * 200, opt, clip=5.0)
    found = model.predict(fitted.params, x, lengths).argmax(-1)
    for b, line in enumerate(pairs):
        for t, (word, tag) in enumerate(line):
            assert tags[found[t, b]] == tag, (word, tag)
    assert {tags[k] for k in found[x == words.index("saw")]} == {"V", "N"}


def test_polarity():
    """One answer for a sentence, at its last word; negation turns it round."""
    reviews = {"the movie was boring and long": 0, "the movie was great": 1, "great and funny": 1, "boring": 0,
               "the movie was not great": 0, "not boring": 1, "long and not funny": 0, "funny": 1}
    words = sorted({word for review in reviews for word in review.split()})
    x, lengths = fb.pad([[words.index(word) for word in review.split()] for review in reviews])
    y = np.array([*reviews.values()], np.float32)[:, None]
    model = fb.SequenceModel(fb.RNN(len(words), 12), 1, "sigmoid_cross_entropy", "many_to_one")
    params, loss = train(model, x, y, lengths)
    assert loss < 0.1 and (model.predict(params, x, lengths).round() == y).all()


def test_clipping():
    rng = np.random.default_rng(0)
    cell = fb.RNNParams(*(rng.normal(size=s) for s in ((3, 2), (3, 3), 3)))
    tree = fb.ModelParams(cell, fb.ReadoutParams(np.ones((1, 3)), np.ones(1)))
    flat = lambda t: np.concatenate([a.ravel() for a in (*t.cell, *t.readout)])  # noqa: E731
    clipped, norm = fb.clip_by_norm(tree, 1.0)
    assert norm == pytest.approx(np.linalg.norm(flat(tree)))
    np.testing.assert_allclose(flat(clipped) * norm, flat(tree))
    again, one = fb.clip_by_norm(clipped, 1.0 + 1e-12)
    assert one == pytest.approx(1.0) and np.array_equal(flat(again), flat(clipped))
    by_value = fb.clip_by_value(tree, 0.1)
    assert np.array_equal(flat(by_value), np.clip(flat(tree), -0.1, 0.1))
    assert np.array_equal(flat(fb.clip_by_value(by_value, 0.1)), flat(by_value))
    assert np.array_equal(flat(fb.clip_by_norm(tree, 1e9)[0]), flat(tree))


def test_overflowing_norm_is_measured_not_lost():
    assert fb.clip_by_norm((np.array([3e200, 4e200]),), 1.0)[1] == pytest.approx(5e200)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_gradients_are_never_applied(bad):
    tree = (np.array([1.0, bad]),)
    with pytest.raises(ValueError, match="finite norm"):
        fb.clip_by_norm(tree, 1.0)
    for opt in (fb.SGD(0.1), fb.Adam(0.1)):
        with pytest.raises(ValueError, match="grads: expected finite"):
            opt.update((np.zeros(2),), tree, opt.init((np.zeros(2),)))


def test_optimisers_equal_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start, steps = rng.normal(size=5), rng.normal(size=(6, 5))
    for ours, theirs in ((fb.SGD(0.1, 0.9), lambda p: torch.optim.SGD([p], 0.1, 0.9)),
                         (fb.Adam(0.1), lambda p: torch.optim.Adam([p], 0.1))):
        p = torch.tensor(start, requires_grad=True)
        opt, tree = theirs(p), (start,)
        state = ours.init(tree)
        for g in steps:
            p.grad = torch.tensor(g)
            opt.step()
            tree, state = ours.update(tree, (g,), state)
        np.testing.assert_allclose(tree[0], p.detach().numpy(), rtol=1e-12)


def test_padding():
    ids, lengths = fb.pad([[43, 96, 2, 78, 43], [11, 51, 9, 52, 6, 1, 75, 29]], 7)
    assert ids.T.tolist() == [[43, 96, 2, 78, 43, 0, 0], [11, 51, 9, 52, 6, 1, 75]] and lengths.tolist() == [5, 7]


@pytest.mark.parametrize(("call", "message"), [
    (lambda: fb.pad([]), "sequences"), (lambda: fb.pad([[1], []]), "sequences"), (lambda: fb.pad([[1]], 0), "max_len"),
    (lambda: fb.SGD(0), "lr"), (lambda: fb.SGD(0.1, 1.0), "momentum"), (lambda: fb.Adam(np.nan), "lr"),
    (lambda: fb.clip_by_value((np.ones(1),), -1), "limit"), (lambda: fb.SequenceModel(fb.RNN(1, 1), 0), "output_size"),
    (lambda: fb.SequenceModel(fb.RNN(1, 1), 1, "hinge"), "loss"), (lambda: fb.SequenceModel(fb.RNN(1, 1), 1, mode="one"), "mode"),
])
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("changes", "message"), [
    ({"y": np.full((7, 4), 4)}, "y: expected ids in 0 … 3"), ({"y": np.zeros((7, 3), int)}, r"y: expected \(7, 4\)"),
    ({"y": np.zeros((7, 4))}, "y: expected integer"), ({"weights": np.ones((4, 7))}, r"weights: expected \(7, 4\)"),
    ({"weights": np.full((7, 4), np.nan)}, "weights: expected finite"), ({"reduction": "max"}, "reduction"),
    ({"params": None}, "params: expected ModelParams"),
])
def test_refused_by_the_model(changes, message):
    model, params, x, y, _, _ = problem("softmax_cross_entropy", "many_to_many")
    with pytest.raises((TypeError, ValueError), match=message):
        model.loss_and_grad(**{"params": params, "x": x, "y": y, **changes})


@pytest.mark.parametrize("mode", ["many_to_many", "many_to_one"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_stack_in_the_place_of_a_cell(bidirectional, mode):
    """Gradient by differences, dropout included; clipping and optimisers take the tree; prediction at the counted step."""
    rng = np.random.default_rng(0)
    cells = [fb.RNN(3, 5), fb.RNN(10 if bidirectional else 5, 4)]
    model = fb.SequenceModel(fb.Stack(cells, bidirectional, dropout=0.3), 2, "squared_error", mode)
    params = model.init(seed=0, dtype=np.float64)
    x, lengths = rng.normal(size=(6, 3, 3)), np.array([6, 2, 4])
    y = rng.normal(size=(6, 3, 2) if mode == "many_to_many" else (3, 2))
    loss, grads = model.loss_and_grad(params, x, y, lengths, seed=5)
    assert loss != model.loss_and_grad(params, x, y, lengths, seed=6)[0]
    v = tree_map(lambda a: rng.normal(size=a.shape), params)
    up, down = (model.loss_and_grad(tree_map(lambda p, d, e=e: p + e * d, params, v), x, y, lengths, seed=5)[0]
                for e in (1e-6, -1e-6))
    slope = sum((a * b).sum() for a, b in zip(leaves(grads), leaves(v), strict=True))
    assert (up - down) / 2e-6 == pytest.approx(slope, rel=1e-6)
    clipped, norm = fb.clip_by_norm(grads, 0.1)
    assert norm > 0.1 and global_norm(clipped) == pytest.approx(0.1)
    opt = fb.Adam(0.01)
    moved, _ = opt.update(params, clipped, opt.init(params))
    assert type(moved.cell) is tuple and model.loss(moved, x, y, lengths) < model.loss(params, x, y, lengths)
    if mode == "many_to_one":
        picked = fb.forward(model.cell, params.cell, x, lengths=lengths).h[lengths - 1, np.arange(3)]
        np.testing.assert_allclose(model.predict(params, x, lengths), picked @ params.readout.V.T, rtol=1e-12)


@pytest.mark.parametrize("mode", ["many_to_many", "many_to_one"])
def test_loss_and_grad_within_a_memory_budget(mode):
    rng = np.random.default_rng(0)
    model = fb.SequenceModel(fb.RNN(5, 9), 4, mode=mode)
    params = model.init(seed=1, dtype=np.float64)
    x, lengths = rng.integers(0, 5, size=(4000, 2)), np.array([4000, 2500])
    y = rng.integers(0, 4, size=(4000, 2) if mode == "many_to_many" else 2)
    weights = rng.random((4000, 2)) * (rng.random((4000, 2)) < 0.5)
    weights[lengths - 1, [0, 1]] = 0.5
    arguments = {"lengths": lengths, "weights": weights, "reduction": "mean"}
    loss, grads = model.loss_and_grad(params, x, y, **arguments)
    bounded, within = model.loss_and_grad(params, x, y, **arguments, memory_budget="2 MiB")
    np.testing.assert_allclose(bounded, loss, rtol=1e-12)
    for got, want in zip((*within.cell, *within.readout), (*grads.cell, *grads.readout), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-13)
