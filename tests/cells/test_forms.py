"""The forms of the cells: columns that fit together, parameters of their own that are named and counted."""
from __future__ import annotations

import pytest

import fastbptt as fb
from fastbptt.cells.form import FORMS

CELLS = [fb.RNN(3, 5), fb.GRU(3, 5), fb.GRU(3, 5, reset="before"), fb.LSTM(3, 5), fb.LSTM(3, 5, peephole=True)]


def test_every_form_has_a_cell():
    assert {cell.params_type for cell in CELLS} == set(FORMS)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.params_type.__name__)
def test_form_agrees_with_the_shapes_of_the_cell(cell):
    form, shapes = cell.form, cell.shapes
    lay = form.layout
    assert shapes["U"] == (lay.input_columns * 5, 3) and shapes["W"] == (lay.recurrent * 5, 5)
    assert 0 <= lay.first_gate < lay.input_columns
    assert lay.recurrent_first + lay.recurrent + (form.second_product is not None) <= lay.columns >= lay.input_columns
    assert form.states == len(cell.state_type._fields) and len(cell.tape_type._fields) == form.states + 1
    own = set(shapes) - {"U", "W", "b"}
    assert own == ({form.extra} if form.extra else set())
    assert form.extra_count * 5 == sum(int(shapes[name][0]) * (shapes[name][1] if len(shapes[name]) > 1 else 1) for name in own)
    assert (form.extra_backward is not None) == bool(form.extra)
