"""Several workers take the steps of one, and end together, whatever ends one of them."""
from __future__ import annotations

import threading

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.tree import leaves

RNG = np.random.default_rng(0)
MODEL = fb.SequenceModel(fb.RNN(3, 5), 2, "squared_error")
PARAMS = MODEL.init(seed=0, dtype=np.float64)
LENGTHS = [7, 3, 5, 1, 6, 2]
BATCHES = [{"x": RNG.normal(size=(7, 6, 3)), "y": RNG.normal(size=(7, 6, 2)), "lengths": LENGTHS,
            "weights": RNG.integers(0, 3, (7, 6))} for _ in range(4)]


def part(batch, workers, **more):
    """The sequences of one worker: of other lengths than those of the others, and so of other counts."""
    own = slice(*np.array([0, 1, 6] if workers.size == 2 else [0, 1, 2, 6])[workers.rank:workers.rank + 2])
    return {name: array[own] if name == "lengths" else array[:, own] for name, array in batch.items()} | more


def close(one, other, rtol=1e-12):
    return all(np.allclose(a, b, rtol=rtol, atol=1e-14) for a, b in zip(leaves(one), leaves(other), strict=True))


def same(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(leaves(one), leaves(other), strict=True))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("size", [2, 3])
def test_workers_take_the_steps_of_one(reduction, size, on_workers):
    """Counts differ; the mean is that over all steps, its gradient is clipped after the sum."""
    options = {"optimizer": fb.Adam(0.01), "clip": 0.05, "schedule": fb.Cosine(4)}
    steps = []
    one = fb.fit(MODEL, PARAMS, [{**b, "reduction": reduction} for b in BATCHES], callback=steps.append, **options)
    assert all(step.norm > 0.05 for step in steps), "nothing was clipped"
    norms = [[] for _ in range(size)]
    found = on_workers(size, lambda w: fb.fit(MODEL, PARAMS, [part(b, w, reduction=reduction) for b in BATCHES], reduce=w,
                                              callback=lambda step: norms[w.rank].append(step.norm), **options))
    for several, norm in zip(found, norms, strict=True):
        assert close(several.params, one.params) and close(several.opt_state, one.opt_state)
        assert np.allclose(several.losses, one.losses, rtol=1e-12) and several.losses == found[0].losses
        assert np.allclose(norm, [step.norm for step in steps], rtol=1e-12)
        assert same(several.params, found[0].params)


def test_a_worker_without_counted_steps(on_workers):
    batch = {"x": BATCHES[0]["x"], "y": BATCHES[0]["y"], "reduction": "mean"}
    one = fb.fit(MODEL, PARAMS, [batch], fb.SGD(0.1))
    none = {**batch, "weights": np.zeros((7, 6))}
    for found in on_workers(2, lambda w: fb.fit(MODEL, PARAMS, [none if w.rank else batch], fb.SGD(0.1), reduce=w)):
        assert close(found.params, one.params) and np.allclose(found.losses, one.losses)
    for found in on_workers(2, lambda w: fb.fit(MODEL, PARAMS, [none], fb.SGD(0.1), reduce=w)):
        assert same(found.params, PARAMS) and found.losses == [0.0]


def test_a_function_gets_one_vector_for_each_update():
    """[gradients…, loss · count, count]; what it returns is taken as the sum."""
    seen = []
    batch = {**BATCHES[0], "reduction": "mean"}
    loss, grads = MODEL.loss_and_grad(PARAMS, **batch)
    count = int(((np.arange(7)[:, None] < LENGTHS) & (batch["weights"] != 0)).sum())
    fitted = fb.fit(MODEL, PARAMS, [batch] * 3, fb.SGD(0.1), reduce=lambda vector: seen.append(vector.copy()) or 2 * vector)
    assert len(seen) == 3 and all(vector.dtype == np.float64 for vector in seen)
    flat = np.concatenate([a.ravel() for a in leaves(grads)])
    assert np.allclose(seen[0], [*flat * count, loss * count, count], rtol=1e-14)
    assert close(fitted.params, fb.fit(MODEL, PARAMS, [batch] * 3, fb.SGD(0.1)).params)
    doubled = fb.fit(MODEL, PARAMS, [BATCHES[0]], fb.SGD(0.1), reduce=lambda vector: 2 * vector)      # a sum of losses
    assert np.allclose(doubled.params.cell.W, fb.fit(MODEL, PARAMS, [BATCHES[0]], fb.SGD(0.2)).params.cell.W, rtol=1e-12)


def test_float32_has_the_same_bits_as_without():
    params = MODEL.init(seed=0)
    batches = [{**batch, "x": batch["x"].astype(np.float32), "reduction": "mean"} for batch in BATCHES]
    alone, summed = (fb.fit(MODEL, params, batches, fb.Adam(0.01), reduce=f) for f in (None, lambda vector: vector))
    assert same(alone.params, summed.params) and np.allclose(alone.losses, summed.losses, rtol=1e-15)


def test_a_stream_in_shards_is_the_stream(on_workers):
    """With the state carried on, on every worker."""
    ids = RNG.integers(0, 3, 61)
    model = fb.SequenceModel(fb.RNN(3, 4), 3)
    params = model.init(seed=1, dtype=np.float64)
    one = fb.fit(model, params, fb.stream(ids, 4, 5, epochs=2), fb.Adam(0.01))
    found = on_workers(2, lambda w: fb.fit(model, params, fb.stream(ids, 2, 5, epochs=2, shard=(w.rank, w.size)), fb.Adam(0.01),
                                           reduce=w))
    assert all(close(several.params, one.params) for several in found)
    assert np.allclose(np.concatenate([several.state.h for several in found]), one.state.h, rtol=1e-12)


def test_workers_draw_other_masks(on_workers):
    """Worker 0 draws what one process would."""
    model = fb.SequenceModel(fb.Stack([fb.RNN(3, 4), fb.RNN(4, 4)], dropout=0.5), 2, "squared_error")
    params = model.init(seed=0, dtype=np.float64)
    batch = {"x": BATCHES[0]["x"], "y": BATCHES[0]["y"]}
    alone = fb.fit(model, params, [batch], fb.SGD(0.1), seed=3)
    twice = fb.fit(model, params, [batch], fb.SGD(0.2), seed=3)
    found = on_workers(2, lambda w: fb.fit(model, params, [batch], fb.SGD(0.1), seed=3, reduce=w))
    assert found[0].losses != [2 * alone.losses[0]] and not close(found[0].params, twice.params)
    again = on_workers(2, lambda w: fb.fit(model, params, [batch], fb.SGD(0.1), seed=3, reduce=w))
    assert same(again[0].params, found[1].params)


def bad_batches(workers, kind):
    """Four batches; on worker 1 something is wrong with the third."""
    for number, batch in enumerate(BATCHES):
        if number == 2 and workers.rank == 1:
            if kind == "error":
                raise KeyError("the disk")
            if kind == "interrupt":
                raise KeyboardInterrupt
            if kind == "end":
                return
            if kind == "no batch":
                batch = 7
            if kind == "nan":
                batch = {**batch, "x": np.where(np.arange(6)[None, :, None] == 4, np.nan, batch["x"]), "lengths": None}
        yield batch if isinstance(batch, int) else part(batch, workers) if kind != "nan" else batch


@pytest.mark.parametrize(("kind", "own", "message"), [
    ("error", KeyError, "worker 1 stopped: KeyError: 'the disk'"),
    ("interrupt", KeyboardInterrupt, "worker 1 stopped: interrupted"),
    ("nan", ValueError, "worker 1 stopped: batch 3: expected a finite gradient, got one of norm nan: x has NaN or Inf at step 0 "
                        "of sequence 4"),
    ("no batch", TypeError, "worker 1 stopped: batch 3: expected a window"),
    ("end", fb.distributed.WorkerError, "batches: expected as many on every worker, got none any more on worker 1"),
])
def test_what_ends_one_ends_all_with_its_message(kind, own, message, on_workers):
    found = on_workers(3, lambda w: fb.fit(MODEL, PARAMS, bad_batches(w, kind), fb.Adam(0.01), reduce=w))
    assert type(found[1]) is own
    for error in (found[0], found[2]):
        assert isinstance(error, fb.distributed.WorkerError) and str(error).startswith(message), error
    for error in found:
        assert len(error.fitted.losses) == 2 and same(error.fitted.params, found[0].fitted.params)


@pytest.mark.parametrize("where", ["callback", "evaluation", "schedule", "clip", "steps"])
def test_errors_outside_of_the_gradient(where, on_workers):
    def run(workers):
        def fail(given):
            if workers.rank == 0:
                raise OSError("no space left")
            return 1.0
        option = fail if where in ("callback", "evaluation", "schedule") else -1 if workers.rank == 0 else 3
        batches = [part(b, workers) for b in BATCHES]
        return fb.fit(MODEL, PARAMS, batches, fb.SGD(0.01), every=2, reduce=workers, **{where: option})
    found = on_workers(2, run)
    assert not isinstance(found[0], fb.distributed.WorkerError)
    assert isinstance(found[1], fb.distributed.WorkerError) and str(found[0]) in str(found[1])


@pytest.mark.parametrize(("name", "options"), [
    ("params", lambda rank: {"params": MODEL.init(seed=rank, dtype=np.float64)}), ("clip", lambda rank: {"clip": 1.0 + rank}),
    ("optimizer", lambda rank: {"optimizer": fb.SGD(0.1 + rank)}), ("steps", lambda rank: {"steps": 2 + rank}),
    ("done", lambda rank: {"done": rank}), ("truncation", lambda rank: {"truncation": fb.Truncation(2 + rank)}),
    ("opt_state", lambda rank: {"opt_state": type(fb.SGD(0.1).init(PARAMS))(PARAMS) if rank else None})])
def test_workers_that_do_not_begin_alike(name, options, on_workers):
    given = {"params": PARAMS, "optimizer": fb.SGD(0.1)}
    found = on_workers(2, lambda w: fb.fit(MODEL, batches=BATCHES[:1], **{**given, **options(w.rank)}, reduce=w))
    assert all(str(error).startswith(f"{name}: expected the same on every worker") for error in found), found


def test_a_callback_of_one_stops_all_after_the_same_update(on_workers):
    found = on_workers(3, lambda w: fb.fit(MODEL, PARAMS, [part(b, w) for b in BATCHES], fb.SGD(0.01), reduce=w,
                                           callback=lambda step: w.rank == 1 and step.number == 2))
    assert [len(fitted.losses) for fitted in found] == [2, 2, 2] and same(found[0].params, found[1].params)


def test_no_batch_on_one_or_all(on_workers):
    found = on_workers(2, lambda w: fb.fit(MODEL, PARAMS, BATCHES if w.rank else [], fb.SGD(0.01), reduce=w))
    assert all("got none any more on worker 0" in str(error) for error in found)
    found = on_workers(2, lambda w: fb.fit(MODEL, PARAMS, [], fb.SGD(0.01), reduce=w))
    assert all(str(error).startswith("batches: expected at least one batch") for error in found)


def test_a_worker_that_does_not_come_is_given_up(on_workers):
    found = on_workers(2, lambda w: w.rank or fb.fit(MODEL, PARAMS, BATCHES, fb.SGD(0.01), reduce=w), timeout=0.2)
    assert isinstance(found[0], fb.distributed.WorkerError)
    assert "expected an answer of all 2 workers within 0.2 s" in str(found[0]) and found[0].fitted.losses == []


def test_workers_of_a_function_end_together():
    """A function can tell no message: the others learn that one has stopped."""
    barrier, slots = threading.Barrier(2), [None, None]

    def run(rank):
        def total(vector):
            slots[rank] = vector
            barrier.wait(30)
            result = slots[0] + slots[1]
            barrier.wait(30)
            return result
        try:
            found[rank] = fb.fit(MODEL, PARAMS, failing(rank), fb.SGD(0.01), reduce=total)
        except Exception as error:
            found[rank] = error

    def failing(rank):
        yield from BATCHES[:2]
        if rank:
            raise KeyError("the disk")
        yield BATCHES[2]
    found = [None, None]
    threads = [threading.Thread(target=run, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert isinstance(found[1], KeyError) and isinstance(found[0], fb.distributed.WorkerError)
    assert str(found[0]).startswith("batch 3: expected finite sums over workers") and len(found[0].fitted.losses) == 2


@pytest.mark.parametrize(("reduce", "message"), [
    (7, "reduce: expected a function of a vector"), (lambda vector: None, "got None; return the vector"),
    (lambda vector: vector[:-1], "reduce: expected it to return the sum"), (lambda vector: "sum", "got str")])
def test_refused(reduce, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fb.fit(MODEL, PARAMS, BATCHES, fb.SGD(0.01), reduce=reduce)


def test_a_stream_of_another_shard_is_refused(on_workers):
    ids = np.arange(99) % 3
    model = fb.SequenceModel(fb.RNN(3, 4), 3)
    found = on_workers(2, lambda w: fb.fit(model, model.init(), fb.stream(ids, 2, 5, shard=(0, 2)), fb.SGD(0.1), reduce=w))
    assert str(found[1]).startswith("batches: expected a stream with shard=(1, 2), as `reduce` counts workers, got (0, 2)")
    assert isinstance(found[0], fb.distributed.WorkerError)
