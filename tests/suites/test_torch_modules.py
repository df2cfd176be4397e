"""PyTorch's own samples of its modules, and packed sequences: outputs, final states and all gradients."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.interop.torch import batch_first, from_hidden, from_module, to_hidden, to_state_dict

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")       # torch.testing needs it
common = pytest.importorskip("torch.testing._internal.common_modules")

MODULES = (torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM)
TOLERANCE = {"float32": 2e-5, "float64": 1e-11}


def samples(dtype):
    """(name, number) of every sample, and the samples."""
    found = {}
    for info in common.module_db:
        if info.module_cls in MODULES:
            torch.manual_seed(0)
            made = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=True)
            found |= {(info.module_cls, i): sample for i, sample in enumerate(made)}
    return found


SAMPLES = {dtype: samples(getattr(torch, dtype)) for dtype in TOLERANCE}
KEYS = list(SAMPLES["float64"])
REFUSED = [key for key in KEYS if SAMPLES["float64"][key].constructor_input.kwargs.get("proj_size", 0) > 0]
COMPUTED = [key for key in KEYS if key not in REFUSED]


def name(key):
    return f"{key[0].__name__}-{key[1]}"


def close(got, want, tolerance):
    want = want.detach().numpy()
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def as_tuple(hidden):
    return hidden if isinstance(hidden, tuple) else (hidden,)


def compare(module, run, x, hidden, lengths, tolerance, seed=0):
    """Outputs and all gradients of one module; run(x, hidden) -> (T, B, ·) and the final states."""
    cell, params = from_module(module)
    out, final = run(x, hidden)
    finals = as_tuple(final)
    state = None if hidden is None else from_hidden(cell, hidden)
    tape = fb.forward(cell, params, x.detach().numpy(), state, lengths)
    valid = np.arange(len(x))[:, None] < tape.batch.lengths
    close(np.where(valid[..., None], tape.h, 0), out, tolerance)
    for got, want in zip(as_tuple(to_hidden(cell, tape.final)), finals, strict=True):
        close(got, want, tolerance)

    rng = np.random.default_rng(seed)
    dh, *dfinals = (rng.normal(size=a.shape).astype(tape.h.dtype) for a in (out, *finals))
    sum(((a * torch.from_numpy(e)).sum() for a, e in zip((out, *finals), (dh, *dfinals), strict=True))).backward()
    dfinal = from_hidden(cell, tuple(dfinals) if len(dfinals) > 1 else dfinals[0])
    grads = fb.backward(cell, params, tape, dh, dfinal=dfinal)
    close(grads.x, x.grad, tolerance)
    if hidden is not None:
        for got, want in zip(as_tuple(to_hidden(cell, grads.state)), as_tuple(hidden), strict=True):
            close(got, want.grad, tolerance)
    wanted = dict(module.named_parameters())
    for key, got in to_state_dict(cell, grads.params).items():
        if key in wanted and not key.startswith("bias_hh"):         # dL/db is dL/dbias_ih
            close(got, wanted[key].grad, tolerance)
        elif key in wanted and isinstance(module, torch.nn.GRU):    # b_hn, its part of bias_hh
            close(got[-module.hidden_size:], wanted[key].grad[-module.hidden_size:], tolerance)


@pytest.mark.parametrize("key", COMPUTED, ids=name)
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_samples_of_modules(key, dtype):
    """The samples have no batch axis: one sequence."""
    sample = SAMPLES[dtype][key]
    module = key[0](*sample.constructor_input.args, **sample.constructor_input.kwargs, dtype=getattr(torch, dtype))
    x, *hidden = sample.forward_input.args
    x = x.detach()[:, None].requires_grad_()
    one = [tuple(h.detach()[:, None].requires_grad_() for h in as_tuple(given)) for given in hidden]

    def run(x, hidden):
        bare = None if hidden is None else tuple(h[:, 0] for h in as_tuple(hidden))
        out, final = module(x[:, 0], bare if bare is None or len(bare) > 1 else bare[0])
        finals = tuple(h[:, None] for h in as_tuple(final))
        return out[:, None], finals if len(finals) > 1 else finals[0]

    compare(module, run, x, (one[0] if len(one[0]) > 1 else one[0][0]) if one else None, None, TOLERANCE[dtype])


@pytest.mark.parametrize("key", REFUSED, ids=name)
def test_projections_are_refused(key):
    sample = SAMPLES["float64"][key]
    module = key[0](*sample.constructor_input.args, **sample.constructor_input.kwargs)
    with pytest.raises(ValueError, match="module: expected no projection, got proj_size=2"):
        from_module(module)


def test_all_samples_of_2_13_are_here():
    assert len(KEYS) >= 80 and len(REFUSED) == 16


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", MODULES, ids=lambda kind: kind.__name__)
def test_packed_sequences(kind, layers, bidirectional):
    """Lengths, in any order, against PackedSequence, from batch-first data."""
    rng = np.random.default_rng(layers)
    module = kind(3, 5, layers, batch_first=True, bidirectional=bidirectional, dtype=torch.float64)
    lengths = np.array([4, 9, 1, 7, 9, 2])
    data = rng.normal(size=(6, 9, 3))
    hidden = tuple(torch.from_numpy(rng.normal(size=(layers * (1 + bidirectional), 6, 5))).requires_grad_()
                   for _ in range(2 if kind is torch.nn.LSTM else 1))

    def run(x, hidden):
        packed = torch.nn.utils.rnn.pack_padded_sequence(x.transpose(0, 1), lengths, batch_first=True, enforce_sorted=False)
        out, final = module(packed, hidden)
        return torch.nn.utils.rnn.pad_packed_sequence(out)[0], final

    compare(module, run, torch.from_numpy(batch_first(data)).requires_grad_(), hidden if len(hidden) > 1 else hidden[0], lengths,
            1e-11)
