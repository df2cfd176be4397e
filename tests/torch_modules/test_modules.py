"""What a training script relies on: batches, lengths, dropout, states, and what these modules have beyond torch.nn's."""
from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.interop.torch import from_hidden, from_state_dict, to_hidden, to_state_dict

torch = pytest.importorskip("torch")

import fastbptt.torch as ours  # noqa: E402

rnn = torch.nn.utils.rnn
KINDS = ("RNN", "GRU", "LSTM")
LENGTHS = {"sorted": [7, 5, 5, 1], "unsorted": [3, 7, 1, 6], "equal": [7, 7, 7, 7]}
kinds = pytest.mark.parametrize("kind", KINDS)


def as_tuple(hidden):
    return hidden if isinstance(hidden, tuple) else (hidden,)


def pair(kind, seed=1, dtype=torch.float64, sizes=(3, 5), **options):
    """The module of torch.nn and ours, from one seed."""
    made = []
    for home in (torch.nn, ours):
        torch.manual_seed(seed)
        made.append(getattr(home, kind)(*sizes, dtype=dtype, **options))
    return made


def state_for(module, B, dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    shape = len(module.all_weights), B, module.hidden_size
    return tuple(torch.randn(shape, dtype=dtype, generator=generator) for _ in range(2 if isinstance(module, ours.LSTM) else 1))


def gradients(module, x, hidden=(), lengths=None, batch_first=False):
    """Outputs, final states, and gradients of everything."""
    module.zero_grad()
    x, hidden = x.clone().requires_grad_(), [h.clone().requires_grad_() for h in hidden]
    given = x
    if lengths is not None:
        given = rnn.pack_padded_sequence(x, lengths, batch_first, enforce_sorted=lengths == sorted(lengths, reverse=True))
    torch.manual_seed(7)       # of the dropout
    out, final = module(given, *[tuple(hidden) if len(hidden) > 1 else h for h in hidden[:1]])
    results = [out if lengths is None else out.data, *as_tuple(final)]
    generator = torch.Generator().manual_seed(5)
    sum((r * torch.randn(r.shape, dtype=r.dtype, generator=generator)).sum() for r in results).backward()
    return [*results, x.grad, *[h.grad for h in hidden], *[p.grad for p in module.parameters()]]


def assert_close(got, want, tolerance=1e-11):
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


VARIANTS = [(layers, two, first, bias) for layers, two, first, bias in itertools.product((1, 3), (False, True), (False, True),
                                                                                      (False, True))]


@kinds
@pytest.mark.parametrize("layers, two, first, bias", VARIANTS)
@pytest.mark.parametrize("lengths", [None, *LENGTHS])
def test_batches(kind, layers, two, first, bias, lengths):
    theirs, own = pair(kind, num_layers=layers, bidirectional=two, batch_first=first, bias=bias, dropout=0.4 * (layers > 1))
    x = torch.randn((4, 7, 3) if first else (7, 4, 3), dtype=torch.float64)
    for hidden in ((), state_for(own, 4)):
        got, want = (gradients(m, x, hidden, LENGTHS.get(lengths), first) for m in (own, theirs))
        assert_close(got, want)


@kinds
@pytest.mark.parametrize("T, B, I, H", [(1, 1, 1, 1), (37, 7, 3, 37), (7, 37, 37, 7)])
def test_awkward_sizes_in_float32(kind, T, B, I, H):  # noqa: E741
    theirs, own = pair(kind, dtype=torch.float32, sizes=(I, H), num_layers=2)
    x = torch.randn(T, B, I)
    got, want = (gradients(m, x, state_for(own, B, torch.float32)) for m in (own, theirs))
    for a, b in zip(got, want, strict=True):
        assert (a - b).abs().max() <= 2e-5 * max(1.0, float(b.detach().abs().max()))


@kinds
def test_dropout_acts_in_training_only(kind):
    _, own = pair(kind, num_layers=2, dropout=0.5)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    first, second = own(x)[0], own(x)[0]
    assert not torch.equal(first, second)
    own.eval()
    assert torch.equal(own(x)[0], own(x)[0])


@kinds
def test_a_packed_result_is_packed_like_its_input(kind):
    _, own = pair(kind)
    packed = rnn.pack_padded_sequence(torch.randn(7, 4, 3, dtype=torch.float64), LENGTHS["unsorted"], enforce_sorted=False)
    out, _ = own(packed)
    assert isinstance(out, rnn.PackedSequence)
    assert all(torch.equal(a, b) for a, b in zip(out[1:], packed[1:], strict=True))


@kinds
def test_no_sequences(kind):
    """As torch.nn: results without sequences, gradients of 0."""
    theirs, own = pair(kind, num_layers=2)
    x = torch.zeros(5, 0, 3, dtype=torch.float64)
    assert_close(gradients(own, x), gradients(theirs, x))


@kinds
def test_only_what_is_used_is_needed(kind):
    """A loss of the final state alone, of the cell state alone; a frozen module; an input without gradient."""
    theirs, own = pair(kind)
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    for k in range(2 if kind == "LSTM" else 1):
        found = []
        for module in (theirs, own):
            module.zero_grad()
            as_tuple(module(x)[1])[k].square().sum().backward()
            found.append([p.grad for p in module.parameters()])
        assert_close(found[1], found[0])
    own.requires_grad_(False)
    assert not own(x)[0].requires_grad
    own.weight_hh_l0.requires_grad_()
    own.zero_grad()
    own(x)[0].sum().backward()
    assert own.weight_hh_l0.grad is not None and own.weight_ih_l0.grad is None


def test_the_same_tensor_for_both_states():
    theirs, own = pair("LSTM")
    x, found = torch.randn(7, 4, 3, dtype=torch.float64), []
    for module in (theirs, own):
        h = torch.ones(1, 4, 5, dtype=torch.float64, requires_grad=True)
        module(x, (h, h))[0].square().sum().backward()
        found.append(h.grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-11, atol=1e-11)


def test_errors_that_are_expanded():
    """sum().backward() sends one number to all steps, in a tensor without strides."""
    theirs, own = pair("GRU")
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    for module in (theirs, own):
        module(x)[0].sum().backward()
    assert_close([p.grad for p in own.parameters()], [p.grad for p in theirs.parameters()])


def test_weights_put_in_place_of_parameters():
    """Parametrisations and functional_call, as for torch.nn's."""
    theirs, own = pair("LSTM")
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    found = []
    for module in (theirs, own):
        torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
        module.parametrizations.weight_hh_l0.original0.data.mul_(2)
        module(x)[0].sum().backward()
        found.append([module(x)[0], *[p.grad for p in module.parameters()]])
    assert_close(found[1], found[0])


@kinds
def test_checkpointed_activations(kind):
    """What is kept is kept by autograd, so torch.utils.checkpoint drops it and runs forward again."""
    _, own = pair(kind)
    x = torch.randn(7, 4, 3, dtype=torch.float64, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        own(x)[0].sum().backward()
    assert (8, 4, 5) in kept
    want, x.grad = x.grad, None
    torch.utils.checkpoint.checkpoint(lambda x: own(x)[0], x, use_reentrant=False).sum().backward()
    assert torch.equal(x.grad, want)


# ------------------------------------------------------------------------------------ beyond torch.nn


def expected(cell, module, x, truncation=None, clip_state=None, seed=None):
    """Results and gradients by `fb.forward` and `fb.backward`, as `gradients` has them."""
    arrays = {name: p.detach().numpy() for name, p in module.named_parameters()}
    parts = []
    for k, part in enumerate(cell.scans):
        W = arrays[f"weight_hh_l{k}"]
        values = {"U": arrays[f"weight_ih_l{k}"], "W": W, "b": arrays[f"bias_ih_l{k}"] + arrays[f"bias_hh_l{k}"]}
        if "b_hn" in part.shapes:
            H = W.shape[1]
            values["b_hn"] = arrays[f"bias_hh_l{k}"][-H:]
            values["b"][-H:] = arrays[f"bias_ih_l{k}"][-H:]
        if "P" in part.shapes:
            values["P"] = arrays[f"weight_peephole_l{k}"]
        parts.append(part.params_type(**values))
    params = cell.per_layer(iter(parts))
    tape = fb.forward(cell, params, x.numpy(), seed=seed)
    finals = cell.flatten(tape.final)
    results = [tape.h, *[np.stack(of_kind) for of_kind in zip(*finals, strict=True)]]
    generator = torch.Generator().manual_seed(5)
    errors = [torch.randn(r.shape, dtype=torch.float64, generator=generator).numpy() for r in results]
    dfinal = cell.per_layer(part.state_type(*[e[k] for e in errors[1:]]) for k, part in enumerate(cell.scans))
    grads = fb.backward(cell, params, tape, errors[0], truncation, dfinal=dfinal, clip_state=clip_state)
    found = [*results, grads.x]
    for g in cell.flatten(grads.params):
        b_hh = np.concatenate([g.b[:-len(g.b_hn)], g.b_hn]) if "b_hn" in g._fields else g.b
        found += [g.U, g.W, g.b, b_hh, *([g.P] if "P" in g._fields else [])]
    return [torch.from_numpy(np.array(a)) for a in found]


CELLS = {
    "sigmoid": (ours.RNN, {"activation": "sigmoid"}, lambda i: fb.RNN(i, 5, "sigmoid")),
    "leaky_relu": (ours.RNN, {"activation": "leaky_relu"}, lambda i: fb.RNN(i, 5, "leaky_relu")),
    "identity": (ours.RNN, {"activation": "identity"}, lambda i: fb.RNN(i, 5, "identity")),
    "relu": (ours.RNN, {"nonlinearity": "relu"}, lambda i: fb.RNN(i, 5, "relu")),
    "before": (ours.GRU, {"reset": "before"}, lambda i: fb.GRU(i, 5, "before")),
    "after": (ours.GRU, {"reset": "after"}, lambda i: fb.GRU(i, 5)),
    "peephole": (ours.LSTM, {"peephole": True}, lambda i: fb.LSTM(i, 5, True)),
    "plain": (ours.LSTM, {}, lambda i: fb.LSTM(i, 5)),
}
PASSES = {"full": {}, "window": {"truncation": fb.Truncation(3)}, "mixture": {"truncation": fb.Truncation(4, 2)},
          "chunks": {"truncation": fb.Truncation.chunks(3)}, "clipped": {"clip_state": 0.3},
          "both": {"truncation": fb.Truncation(4, 2), "clip_state": 0.3}}


def extended(name, layers, **options):
    """A module with options of ours, and the cell or stack that it computes."""
    kind, own, cell = CELLS[name]
    torch.manual_seed(3)
    module = kind(3, 5, layers, dtype=torch.float64, **own, **options)
    cells = [cell(3 if k == 0 else 5) for k in range(layers)]
    return module, cells[0] if layers == 1 else fb.Stack(cells, dropout=options.get("dropout", 0.0))


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("layers", [1, 2])
def test_options_of_ours(name, passes, layers):
    module, cell = extended(name, layers, **PASSES[passes])
    x = torch.randn(9, 4, 3, dtype=torch.float64)
    assert_close(gradients(module, x), expected(cell, module, x, **PASSES[passes]))
    if passes != "full":
        full, _ = extended(name, layers)
        assert not all(torch.allclose(a, b) for a, b in zip(gradients(module, x), gradients(full, x), strict=True))


@pytest.mark.parametrize("name", ["relu", "after", "peephole"])
def test_truncation_of_layers_with_dropout(name):
    """The states of all layers are cut together; the masks follow from PyTorch's seed."""
    module, cell = extended(name, 2, truncation=fb.Truncation(4, 2), dropout=0.5)
    x = torch.randn(9, 4, 3, dtype=torch.float64)
    torch.manual_seed(7)
    seed = int(torch.randint(2**62, (1,)))
    assert_close(gradients(module, x), expected(cell, module, x, fb.Truncation(4, 2), seed=seed))
    module.eval()
    assert torch.equal(module(x)[0], module(x)[0])


def test_options_set_later_are_heeded_or_refused():
    module, _ = extended("plain", 2, truncation=fb.Truncation(4, 2), dropout=0.5)
    x = torch.randn(9, 4, 3, dtype=torch.float64)
    module.dropout = 0.1
    assert_close(gradients(module, x), gradients(extended("plain", 2, truncation=fb.Truncation(4, 2), dropout=0.1)[0], x))
    for name in ("truncation", "clip_state"):
        with pytest.raises(AttributeError):
            setattr(module, name, None)


def test_a_subclass_is_called_by_the_name_of_its_base():
    class Own(ours.LSTM):
        pass
    with pytest.raises(ValueError, match="expected 0 for fastbptt.torch.LSTM"):
        Own(2, 3, proj_size=1)


def test_truncated_layers_with_lengths():
    """Packed, each sequence as if it were alone."""
    module, _ = extended("peephole", 2, truncation=fb.Truncation(3, 2))
    x, lengths = torch.randn(9, 3, 3, dtype=torch.float64), [4, 9, 1]
    out, _ = module(rnn.pack_padded_sequence(x, lengths, enforce_sorted=False))
    padded, _ = rnn.pad_packed_sequence(out)
    padded.square().sum().backward()
    packed = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    for b, n in enumerate(lengths):
        alone = module(x[:n, b])[0]
        torch.testing.assert_close(padded[:n, b], alone, rtol=1e-12, atol=1e-12)
        alone.square().sum().backward()
    assert_close(packed, [p.grad for p in module.parameters()])


def test_ways_between_the_modules_and_numpy():
    """Weights of a module as Params, and back, by the public functions of interop."""
    module, cell = extended("plain", 2)
    params = from_state_dict(cell, module.state_dict())
    x, hidden = torch.randn(7, 4, 3, dtype=torch.float64), state_for(module, 4)
    tape = fb.forward(cell, params, x.numpy(), from_hidden(cell, hidden))
    out, final = module(x, hidden)
    torch.testing.assert_close(out.detach(), torch.from_numpy(np.array(tape.h)), rtol=1e-13, atol=1e-13)
    assert_close([t.detach() for t in final], [torch.from_numpy(a) for a in to_hidden(cell, tape.final)], 1e-13)
    module.load_state_dict({name: torch.from_numpy(a) for name, a in to_state_dict(cell, params).items()})
    torch.testing.assert_close(module(x, hidden)[0], out, rtol=1e-13, atol=1e-13)


def test_options_are_shown():
    assert repr(ours.RNN(2, 3, activation="sigmoid", clip_state=1.0)) == "RNN(2, 3, activation='sigmoid', clip_state=1.0)"
    assert repr(ours.GRU(2, 3, 2, reset="before", truncation=fb.Truncation(4, 2))) == (
        "GRU(2, 3, num_layers=2, reset='before', truncation=Truncation(horizon=4, stride=2))")
    assert repr(ours.LSTM(2, 3, peephole=True)) == "LSTM(2, 3, peephole=True)"


def test_what_scripts_call_is_there():
    module = ours.LSTM(2, 3)
    assert module.flatten_parameters() is None
    before = module.weight_ih_l0.clone()
    torch.manual_seed(8)
    module.reset_parameters()
    assert not torch.equal(before, module.weight_ih_l0)
    assert module.double().weight_ih_l0.dtype == torch.float64
    assert module.to("meta")(torch.zeros(4, 5, 2, device="meta", dtype=torch.float64))[0].shape == (4, 5, 3)


@pytest.mark.parametrize("make, kind, message", [
    (lambda: ours.RNN(2, 3, nonlinearity="sigmoid"), ValueError, "from 'tanh' or 'relu', or pass one of 'tanh', 'sigmoid'"),
    (lambda: ours.RNN(2, 3, activation="swish"), ValueError, "activation: expected one of 'tanh'"),
    (lambda: ours.GRU(2, 3, reset="during"), ValueError, "reset: expected one of 'after', 'before'"),
    (lambda: ours.GRU(2, 3, proj_size=2), ValueError, "only supported for LSTM"),
    (lambda: ours.LSTM(2, 3, peephole=1), TypeError, "peephole: expected True or False"),
    (lambda: ours.LSTM(2, 3, truncation=4), TypeError, "truncation: expected fastbptt.Truncation"),
    (lambda: ours.LSTM(2, 3, bidirectional=True, truncation=fb.Truncation(4)), ValueError, "expected None for two directions"),
    (lambda: ours.LSTM(2, 3, clip_state=0), ValueError, "clip_state: expected a number above 0"),
    (lambda: ours.LSTM(2, 3, dropout=1.5), ValueError, "dropout should be a number in range"),
    (lambda: ours.LSTM(2, 3)(np.zeros((4, 5, 2), np.float32)), TypeError, "input: expected a tensor or a PackedSequence"),
    (lambda: ours.LSTM(2, 3)(torch.zeros(4, 5, 2, 1)), ValueError, "LSTM: Expected input to be 2D or 3D, got 4D instead"),
    (lambda: ours.LSTM(2, 3)(torch.zeros(4, 5, 3)), RuntimeError, "must be equal to input_size. Expected 2, got 3"),
    (lambda: ours.LSTM(2, 3)(torch.zeros(0, 5, 2)), RuntimeError, "Expected sequence length to be larger than 0"),
    (lambda: ours.LSTM(2, 3)(torch.zeros(4, 5, 2), torch.zeros(1, 5, 3)), TypeError, "hx: expected a pair .h_0, c_0. of tensors"),
    (lambda: ours.GRU(2, 3)(torch.zeros(4, 5, 2), (torch.zeros(1, 5, 3),)), TypeError, "hx: expected a tensor"),
    (lambda: ours.GRU(2, 3)(torch.zeros(4, 5, 2), torch.zeros(1, 4, 3)), RuntimeError, r"Expected hidden size \(1, 5, 3\), got"),
    (lambda: ours.GRU(2, 3)(torch.zeros(4, 2), torch.zeros(1, 4, 3)), RuntimeError, "unbatched 2-D input, hx should also be 2-D"),
    (lambda: ours.GRU(2, 3)(torch.zeros(4, 5, 2), torch.zeros(1, 5, 3).double()), ValueError, "h_0: expected torch.float32 like"),
    (lambda: ours.GRU(2, 3).bfloat16()(torch.zeros(4, 5, 2).bfloat16()), TypeError, "float32 or float64 .* got torch.bfloat16"),
])
def test_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_dropout_of_one_layer_is_warned_about_as_by_torch_nn():
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        ours.LSTM(2, 3, dropout=0.5)


def test_other_devices_are_refused():
    from torch._subclasses.fake_tensor import FakeTensorMode
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(
            ValueError, match=r"tensors and parameters on the CPU for fastbptt.torch.GRU, got cuda:0 and cpu; move them"):
        ours.GRU(2, 3)(torch.empty(4, 5, 2, device="cuda"))


def test_pytorch_is_imported_only_by_who_asks_for_it():
    code = "import sys, fastbptt; assert 'torch' not in sys.modules; import fastbptt.torch; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_pytorch_is_said():
    code = """
import sys
sys.modules["torch"] = None
try:
    import fastbptt.torch
except ImportError as error:
    assert "pip install 'fastbptt[torch]'" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
