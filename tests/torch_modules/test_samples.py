"""PyTorch's own samples of its modules, run with ours: construction, results, gradients, errors, files."""
from __future__ import annotations

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")       # torch.testing needs it
common = pytest.importorskip("torch.testing._internal.common_modules")

import fastbptt.torch as ours  # noqa: E402

KINDS = ("RNN", "GRU", "LSTM")
DTYPES = (torch.float32, torch.float64)
INFO = {info.module_cls.__name__: info for info in common.module_db
        if info.module_cls in (torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM)}


def samples(kind, dtype, training=True):
    torch.manual_seed(0)
    return INFO[kind].module_inputs_func(INFO[kind], device="cpu", dtype=dtype, requires_grad=True, training=training)


def is_projected(sample):
    return sample.constructor_input.kwargs.get("proj_size", 0) > 0


ALL = [(kind, i) for kind in KINDS for i in range(len(samples(kind, torch.float64)))]
REFUSED = [(kind, i) for kind, i in ALL if is_projected(samples(kind, torch.float64)[i])]
COMPUTED = [key for key in ALL if key not in REFUSED]
computed = pytest.mark.parametrize("kind, i", COMPUTED)


def made(home, kind, given, dtype):
    """A module of torch.nn or of ours, from seed 1."""
    torch.manual_seed(1)
    return getattr(home, kind)(*given.args, **given.kwargs, dtype=dtype)


def flat(value):
    return [part for entry in value for part in flat(entry)] if isinstance(value, tuple | list) else [value]


def results(module, sample, reorder=lambda t: t):
    """Outputs, and the gradients of all inputs and parameters from errors of every output."""
    module.zero_grad()
    leaves = [t.detach().clone().requires_grad_() for t in flat(sample.forward_input.args)]
    x, *hidden = [reorder(t) for t in leaves]
    out = flat(module(x, *[tuple(hidden) if len(hidden) > 1 else h for h in hidden[:1]]))
    torch.manual_seed(2)
    sum((o * torch.randn_like(o)).sum() for o in out).backward()
    return [*out, *[t.grad for t in leaves], *[p.grad for p in module.parameters()]]


def assert_close(got, want, dtype):
    tolerance = 2e-5 if dtype == torch.float32 else 1e-11
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@computed
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_results_and_gradients(kind, i, dtype):
    sample = samples(kind, dtype)[i]
    theirs, own = (made(home, kind, sample.constructor_input, dtype) for home in (torch.nn, ours))
    assert_close(results(own, sample), results(theirs, sample), dtype)


@computed
def test_construction_and_representation(kind, i):
    sample = samples(kind, torch.float32)[i]
    theirs, own = (made(home, kind, sample.constructor_input, torch.float32) for home in (torch.nn, ours))
    assert repr(own) == repr(theirs)
    assert list(own.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), theirs.parameters(), strict=True))
    assert [[w.shape for w in layer] for layer in own.all_weights] == [[w.shape for w in layer] for layer in theirs.all_weights]
    for name in type(theirs).__constants__:
        assert getattr(own, name) == getattr(theirs, name), name
    for module, other in ((own, theirs), (theirs, own)):
        torch.nn.init.zeros_(module.weight_hh_l0)
        assert str(other.load_state_dict(module.state_dict())) == "<All keys matched successfully>"


@computed
def test_files_and_copies(kind, i):
    sample = samples(kind, torch.float64)[i]
    module = made(ours, kind, sample.constructor_input, torch.float64)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(file, weights_only=False)]
    want = results(module, sample)
    for other in copies:
        assert repr(other) == repr(module)
        assert all(torch.equal(a, b) for a, b in zip(results(other, sample), want, strict=True))


@computed
def test_inputs_that_are_not_contiguous(kind, i):
    sample = samples(kind, torch.float64)[i]
    module = made(ours, kind, sample.constructor_input, torch.float64)
    scattered = results(module, sample, lambda t: torch.stack([t, t + 1], -1)[..., 0])
    assert all(torch.equal(a, b) for a, b in zip(results(module, sample), scattered, strict=True))


@computed
def test_gradcheck(kind, i):
    sample = samples(kind, torch.float64)[i]
    module = made(ours, kind, sample.constructor_input, torch.float64)
    if getattr(module, "nonlinearity", "") == "relu":
        for p in module.parameters():
            torch.nn.init.uniform_(p, 0.1, 0.5)       # away from the corner of relu
    names, weights = zip(*module.named_parameters(), strict=True)
    inputs = flat(sample.forward_input.args)

    def run(*args):
        x, *hidden = args[:len(inputs)]
        hx = [tuple(hidden) if len(hidden) > 1 else h for h in hidden[:1]]
        own = dict(zip(names, args[len(inputs):], strict=True))
        return tuple(flat(torch.func.functional_call(module, own, (x.abs() + 0.1, *hx))))
    assert torch.autograd.gradcheck(run, [*inputs, *weights], fast_mode=True)


@pytest.mark.parametrize("kind, i", REFUSED)
def test_projections_are_refused(kind, i):
    with pytest.raises(ValueError, match="proj_size: expected 0 for fastbptt.torch.LSTM, which has no projection, got 2; "
                                         "use torch.nn.LSTM, or a Linear after it"):
        made(ours, kind, samples(kind, torch.float64)[i].constructor_input, torch.float64)


def test_the_samples_of_2_13_are_here():
    assert len(ALL) >= 80 and len(REFUSED) == 16


def cases_of_errors():
    return [(kind, dtype, i) for kind in KINDS for dtype in DTYPES for i in range(len(errors(kind, dtype)))]


def errors(kind, dtype):
    info = INFO[kind]
    torch.manual_seed(0)
    return info.module_error_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=True)


@pytest.mark.parametrize("kind, dtype, i", cases_of_errors())
def test_errors_are_those_of_torch_nn(kind, dtype, i):
    case = errors(kind, dtype)[i]
    given = case.module_error_input.constructor_input
    for home in (torch.nn, ours):
        with pytest.raises(case.error_type, match=case.error_regex):
            module = getattr(home, kind)(*given.args, **given.kwargs)
            assert case.error_on == common.ModuleErrorEnum.FORWARD_ERROR, "expected an error of the constructor"
            module(*case.module_error_input.forward_input.args)
