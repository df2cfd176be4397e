"""The passes of a call as data: complete, and in separate units where units may run at once."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.bptt.passes import plan_passes


def plan(lengths, horizon, stride):
    return plan_passes(np.array(lengths), max(lengths), fb.Truncation(horizon, stride), (1, 8, 8))


def rows(passes):
    """(sequence, end, end before it, stop) of every pass."""
    return np.column_stack([passes.sequence, passes.end, passes.previous, passes.stop])


LENGTHS = ([1], [7, 6, 1], [9] * 16, [160], [40, 3, 11, 40, 1], [5, 5],
           [48, 47, 3, 48, 33, 5, 12])


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize(("horizon", "stride"), [(5, 5), (3, 1), (7, 3), (1, 1), (200, 9)])
def test_every_pass_once(lengths, horizon, stride):
    passes = plan(lengths, horizon, stride)
    want = [(b, *of) for b, n in enumerate(lengths) for of in fb.Truncation(horizon, stride).passes(n)]
    assert sorted(map(tuple, rows(passes).tolist())) == want
    assert passes.bounds[0] == 0 and passes.bounds[-1] == len(want) and (np.diff(passes.bounds) > 0).all()
    assert passes.full == (horizon >= max(lengths)) and passes.overlap == (stride < horizon < max(lengths))


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("k", [1, 4, 5])
def test_chunks_that_share_a_step_are_in_one_unit(lengths, k):
    """The last pass over a sequence goes back into the chunk before it where k does not divide the length."""
    passes = plan(lengths, k, k)
    owner = {}
    for unit in range(passes.bounds.size - 1):
        for b, end, _, stop in rows(passes)[passes.bounds[unit]:passes.bounds[unit + 1]].tolist():
            for step in range(stop, end):
                assert owner.setdefault((b, step), unit) == unit


def test_horizons_beyond_every_integer_are_full():
    assert fb.Truncation(2**70).passes(3) == [(3, 0, 0)]
    assert fb.Truncation(2**70, 2**70).passes(5) == [(5, 0, 0)]
    groups = fb.Truncation(2**70, 2**70).groups(np.array([5, 2]), True)
    assert [group.tolist() for group in groups] == [[[0, 5, 0, 0], [1, 2, 0, 0]]]


def test_plans_and_lengths_of_one_call_do_not_reach_the_next():
    cell = fb.RNN(2, 3)
    params, x = cell.init(seed=0), np.ones((4, 2, 2), np.float32)
    first = fb.forward(cell, params, x)
    first.batch.lengths[0] = 1
    assert fb.forward(cell, params, x).h.tobytes() == first.h.tobytes()


def test_units_of_overlapping_passes_have_one_sequence_and_are_many_where_steps_are():
    passes = plan([1024, 300], 32, 1)
    cuts = passes.bounds.tolist()
    assert all(len(set(passes.sequence[a:b].tolist())) == 1 for a, b in zip(cuts[:-1], cuts[1:], strict=True))
    assert len(cuts) - 1 >= 8 and passes.shards == 8
