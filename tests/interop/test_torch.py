"""Weights from and to PyTorch: the same function, the same bits, and a clear word for what does not fit."""

import subprocess
import sys
from collections import namedtuple
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import fastbptt as fb
from fastbptt import reference
from fastbptt.cells.cell import Cell
from fastbptt.interop.torch import batch_first, from_hidden, from_module, from_state_dict, to_hidden, to_state_dict
from fastbptt.tree import leaves

CELL = fb.RNN(3, 4)


def entries(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"weight_ih_l0": (4, 3), "weight_hh_l0": (4, 4), "bias_ih_l0": (4,), "bias_hh_l0": (4,)}
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_rnn_computes_what_the_module_computes(activation, dtype, bias):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.RNN(3, 4, nonlinearity=activation, bias=bias, dtype=getattr(torch, dtype))
    cell = fb.RNN(3, 4, activation)
    params = from_state_dict(cell, module.state_dict())
    assert {array.dtype.name for array in params} == {dtype}
    x = np.random.default_rng(1).normal(size=(6, 2, 3)).astype(dtype)
    with torch.no_grad():
        want = module(torch.from_numpy(x))[0].numpy()
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(fb.forward(cell, params, x).h, want, rtol=tolerance, atol=tolerance)


def test_a_module_loads_what_is_written_and_computes_the_same():
    torch = pytest.importorskip("torch")
    params = CELL.init(seed=3, dtype=np.float64)._replace(b=np.arange(4.0))
    module = torch.nn.RNN(3, 4, dtype=torch.float64)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in to_state_dict(CELL, params).items()})
    x = np.random.default_rng(1).normal(size=(6, 2, 3))
    with torch.no_grad():
        got = module(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(got, fb.forward(CELL, params, x).h, rtol=1e-12, atol=1e-12)


def test_parameters_under_a_gradient_are_read():
    torch = pytest.importorskip("torch")
    module = torch.nn.RNN(3, 4)
    params = from_state_dict(CELL, dict(module.named_parameters()))
    np.testing.assert_array_equal(params.W, module.weight_hh_l0.detach().numpy())


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_is_refused(half):
    torch = pytest.importorskip("torch")
    module = torch.nn.RNN(3, 4).to(getattr(torch, half))
    with pytest.raises(TypeError, match=rf"^weight_ih_l0: expected \(4, 3\) for .*, got .*{half}"):
        from_state_dict(CELL, module.state_dict())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip_keeps_every_bit(dtype):
    params = CELL.init(seed=1, dtype=dtype)._replace(b=np.array([0.1, -0.0, 3.0, 1e-30], dtype))
    again = from_state_dict(CELL, to_state_dict(CELL, params))
    for name, array in again._asdict().items():
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, getattr(params, name))


def test_biases_are_added_and_missing_ones_are_zero():
    given = entries()
    np.testing.assert_array_equal(from_state_dict(CELL, given).b, given["bias_ih_l0"] + given["bias_hh_l0"])
    bias = given.pop("bias_ih_l0")
    np.testing.assert_array_equal(from_state_dict(CELL, given).b, given.pop("bias_hh_l0"))
    np.testing.assert_array_equal(from_state_dict(CELL, {**given, "bias_ih_l0": bias}).b, bias)
    np.testing.assert_array_equal(from_state_dict(CELL, given).b, np.zeros(4))


def test_nothing_is_shared():
    given = entries()
    del given["bias_hh_l0"]
    params = from_state_dict(CELL, given)
    written = to_state_dict(CELL, params)
    assert not any(np.shares_memory(a, b) for a in params for b in given.values())
    assert not any(np.shares_memory(a, b) for a in params for b in written.values())


def test_unusual_arrays_give_the_same_numbers():
    given = entries()
    want = from_state_dict(CELL, given)
    for unusual in (np.asfortranarray, lambda a: a.astype(">f8"), lambda a: np.repeat(a, 2, axis=0)[::2]):
        got = from_state_dict(CELL, {name: unusual(array) for name, array in given.items()})
        for a, b in zip(got, want, strict=True):
            assert a.dtype == np.dtype(np.float64) and a.flags.c_contiguous
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_hh_l0": None}, "^mapping: expected the entries weight_ih_l0, weight_hh_l0, got none named weight_hh_l0; "),
        ({"weight_ih_l1": np.zeros((4, 4))}, "^mapping: expected one layer, .*got also weight_ih_l1; "),
        ({"weight_ih_l0_reverse": np.zeros((4, 3))}, "^mapping: expected .*got also weight_ih_l0_reverse; "),
        ({"weight_hr_l0": np.zeros((2, 4))}, "^mapping: expected .*no projection.*got also weight_hr_l0; "),
        ({"weight_ih_l0": np.zeros((4, 5))}, r"^weight_ih_l0: expected \(4, 3\) for RNN\(.*, got \(4, 5\)"),
        ({"weight_hh_l0": np.zeros((12, 4))}, r"^weight_hh_l0: expected \(4, 4\) for RNN\(.*, got \(12, 4\)"),
        ({"bias_hh_l0": np.zeros(1)}, r"^bias_hh_l0: expected \(4,\) for RNN\(.*, got \(1,\)"),
    ],
)
def test_what_does_not_fit_is_a_value_error(change, message):
    given = {name: value for name, value in {**entries(), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        from_state_dict(CELL, given)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ([("weight_ih_l0", 1)], "^mapping: expected a mapping of names to arrays, got list; "),
        ({**entries(), "bias_ih_l0": np.zeros(4, np.float32)}, "^bias_ih_l0: expected float64 .*, got float32"),
        ({**entries(), "weight_ih_l0": np.zeros((4, 3), complex)}, "^weight_ih_l0: expected .*, got an array of complex128"),
    ],
)
def test_wrong_types_are_type_errors(mapping, message):
    with pytest.raises(TypeError, match=message):
        from_state_dict(CELL, mapping)


def test_parameters_of_another_cell_are_refused():
    with pytest.raises(TypeError, match="^params: expected RNNParams "):
        to_state_dict(CELL, tuple(CELL.init(seed=0)))
    with pytest.raises(ValueError, match=r"^params\.U: expected \(4, 3\) for RNN\("):
        to_state_dict(CELL, fb.RNN(2, 4).init(seed=0))


# ---- layers and directions, hidden states, batch-first data


@pytest.mark.parametrize("bidirectional", [False, True])
def test_stacks_round_trip_under_the_names_of_pytorch(bidirectional):
    torch = pytest.importorskip("torch")
    cells = [fb.RNN(3, 4), fb.RNN(8 if bidirectional else 4, 4)]
    stack = fb.Stack(cells, bidirectional)
    params = stack.init(seed=2)
    written = to_state_dict(stack, params)
    module = torch.nn.RNN(3, 4, 2, bidirectional=bidirectional)
    assert {name: value.shape for name, value in written.items()} == {n: tuple(p.shape) for n, p in module.named_parameters()}
    module.load_state_dict({name: torch.from_numpy(value) for name, value in written.items()})
    cell, again = from_module(module)
    assert cell == stack
    for a, b in zip(leaves(again), leaves(params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_module_of_one_layer_is_a_cell_and_dropout_is_kept():
    torch = pytest.importorskip("torch")
    assert from_module(torch.nn.RNN(3, 4, nonlinearity="relu"))[0] == fb.RNN(3, 4, "relu")
    assert from_module(torch.nn.RNN(3, 4, 2, dropout=0.25))[0] == fb.Stack([fb.RNN(3, 4), fb.RNN(4, 4)], dropout=0.25)
    with pytest.raises(TypeError, match="^module: expected one of torch.nn's RNN.*, got Linear"):
        from_module(torch.nn.Linear(3, 4))


def test_layers_that_no_module_has_are_refused():
    stack = fb.Stack([fb.RNN(3, 4), fb.RNN(4, 5)])
    for call in (lambda: to_state_dict(stack, stack.init()), lambda: from_hidden(stack, np.zeros((2, 1, 4)))):
        with pytest.raises(ValueError, match="^cell: expected layers of one kind and one hidden_size"):
            call()


def test_hidden_states():
    stack = fb.Stack([fb.RNN(3, 4), fb.RNN(8, 4)], True)
    h = np.random.default_rng(0).normal(size=(4, 5, 4))
    state = from_hidden(stack, h)
    np.testing.assert_array_equal(state[1].reverse.h, h[3])
    np.testing.assert_array_equal(to_hidden(stack, state), h)
    np.testing.assert_array_equal(from_hidden(CELL, h[:1]).h, h[0])
    for bad in (h[:3], h[..., :2], (h, h)):
        with pytest.raises((TypeError, ValueError), match="^hidden"):
            from_hidden(stack, bad)


def test_batch_first():
    a = np.arange(24.0).reshape(2, 3, 4)
    got = batch_first(a)
    assert got.flags.c_contiguous and np.array_equal(got, a.transpose(1, 0, 2)) and np.array_equal(batch_first(got), a)
    torch = pytest.importorskip("torch")
    assert np.array_equal(batch_first(torch.from_numpy(a).requires_grad_()), got)
    with pytest.raises(ValueError, match=r"^array: expected \(B, T, …\)"):
        batch_first(a[0, 0])


# ---- what loads elsewhere and would compute something else


OTHERS = {
    "reset='before'": fb.GRU(3, 4, "before"), "leak": fb.RNN(3, 4, leak=0.5), "sigmoid": fb.RNN(3, 4, "sigmoid"),
    "leaky_relu": fb.RNN(3, 4, "leaky_relu"), "identity": fb.RNN(3, 4, "identity"), "mask": fb.RNN(3, 4, mask=np.eye(4)),
    "signs": fb.RNN(3, 4, signs=np.ones(4)), "P": fb.LSTM(3, 4, peephole=True),
}


@pytest.mark.parametrize("option", OTHERS)
def test_cells_that_no_module_computes_are_refused_both_ways(option):
    G = OTHERS[option].gates
    weights = {"weight_ih_l0": np.ones((G * 4, 3)), "weight_hh_l0": np.ones((G * 4, 4))}
    for cell in (OTHERS[option], fb.Stack([OTHERS[option]])):
        for call in (lambda c: to_state_dict(c, c.init()), lambda c: from_state_dict(c, weights)):
            with pytest.raises(ValueError, match=f"^cell: expected .*{option}.*PyTorch has no module"):
                call(cell)


def test_layers_of_different_activations_are_refused():
    stack = fb.Stack([fb.RNN(3, 4), fb.RNN(4, 4, "relu")])
    with pytest.raises(ValueError, match="^cell: expected layers of one kind"):
        to_state_dict(stack, stack.init())
    assert to_state_dict(fb.Stack([fb.RNN(3, 4, "relu"), fb.RNN(4, 4, "relu")]), stack.init())


@pytest.mark.filterwarnings("ignore")        # PyTorch's own, that quantisation moves elsewhere
def test_modules_that_compute_something_else_are_refused():
    torch = pytest.importorskip("torch")
    quantised = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.LSTM(3, 4)), {torch.nn.LSTM})[0]

    class Own(torch.nn.LSTM):
        def forward(self, x):
            return super().forward(2 * x)

    class Same(torch.nn.GRU):
        """Another name alone."""

    with pytest.raises(TypeError, match=r"^module: .* got torch\.ao\..*quantized.*LSTM; pass the module it was quantised from"):
        from_module(quantised)
    with pytest.raises(TypeError, match="^module: .* got Own with a forward of its own; "):
        from_module(Own(3, 4))
    with pytest.raises(ValueError, match="^module: expected no projection, got proj_size=2"):
        from_module(torch.nn.LSTM(3, 4, proj_size=2))
    for other in (torch.nn.LSTMCell(3, 4), torch.nn.GRUCell(3, 4), None, "LSTM"):
        with pytest.raises(TypeError, match="^module: expected one of torch.nn's"):
            from_module(other)
    assert from_module(Same(3, 4))[0] == fb.GRU(3, 4)


def test_tensors_that_numpy_cannot_read_are_named():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"^weight_ih_l0: expected \(4, 3\) for .*, got a tensor"):
        from_state_dict(CELL, torch.nn.RNN(3, 4, device="meta").state_dict())


# ---- a cell with a bias inside its reset gate, and one that PyTorch does not know, as their fields say


@dataclass(frozen=True)
class ResetAfter(Cell):
    input_size: int = 3
    hidden_size: int = 4
    params_type: ClassVar[type] = namedtuple("ResetAfterParams", "U W b b_hn")
    shapes: ClassVar[dict] = {"U": (12, 3), "W": (12, 4), "b": (12,), "b_hn": (4,)}


def test_bias_inside_the_reset_stands_alone():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module, cell = torch.nn.GRU(3, 4, dtype=torch.float64), ResetAfter()
    params = from_state_dict(cell, module.state_dict())
    x = np.random.default_rng(1).normal(size=(5, 2, 3))
    h = reference.forward("gru_after", params._asdict(), x).h[1:]
    with torch.no_grad():
        np.testing.assert_allclose(h, module(torch.from_numpy(x))[0].numpy(), rtol=1e-12, atol=1e-12)
    again = from_state_dict(cell, to_state_dict(cell, params))
    assert all(np.array_equal(a, b) for a, b in zip(again, params, strict=True))


def test_parameters_without_a_place_in_pytorch_are_named():
    @dataclass(frozen=True)
    class Peephole(Cell):
        params_type: ClassVar[type] = namedtuple("PeepholeParams", "U W b P")

    with pytest.raises(ValueError, match="^cell: expected parameters among U, W, b, b_hn, got P in .*Peephole"):
        from_state_dict(Peephole(), entries())


def test_is_an_attribute_that_does_not_import_torch():
    code = ("import sys, numpy as np, fastbptt as fb\n"
            "weights = {'weight_ih_l0': np.ones((3, 2)), 'weight_hh_l0': np.eye(3)}\n"
            "params = fb.interop.torch.from_state_dict(fb.RNN(2, 3), weights)\n"
            "assert params.W.shape == (3, 3) and 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
