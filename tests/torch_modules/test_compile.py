"""Compiled and exported: one graph, the results of the plain call."""
from __future__ import annotations

import pytest

import fastbptt as fb

torch = pytest.importorskip("torch")

import fastbptt.torch as ours  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")
SHAPES = [(5, 2, 3), (9, 4, 3), (7, 3, 3)]
MAKE = {
    "RNN": lambda: ours.RNN(3, 4, 2, bidirectional=True), "GRU": lambda: ours.GRU(3, 4, bias=False),
    "LSTM": lambda: ours.LSTM(3, 4, 2, dropout=0.5), "truncated": lambda: ours.LSTM(3, 4, 2, truncation=fb.Truncation(3, 2)),
}


@pytest.fixture(autouse=True)
def fresh():
    """Nothing compiled before."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def results(run, module, shape, hx=None):
    """Outputs and gradients of a call."""
    module.zero_grad()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    out, final = run(x) if hx is None else run(x, hx)
    final = final if isinstance(final, tuple) else (final,)
    sum(t.square().sum() for t in (out, *final)).backward()
    return [out, *final, x.grad, *[p.grad for p in module.parameters()]]


def assert_equal(module, run, shapes):
    for shape in shapes:
        torch.manual_seed(7)
        want = results(module, module, shape)
        torch.manual_seed(7)
        got = results(run, module, shape)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("dynamic", [False, None, True])
def test_one_graph(name, dynamic):
    """fullgraph=True: nothing of a module is left to Python; with shapes fixed, changing, or free."""
    torch.manual_seed(0)
    module = MAKE[name]()
    module.dropout = 0.0      # a compiler draws other numbers
    run = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    assert_equal(module, run, SHAPES if dynamic is not False else SHAPES[:1])


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("name", MAKE)
def test_inductor(name, dynamic):
    """With a loss and a layer around it that inductor compiles to C++; it needs a C++ compiler."""
    torch.manual_seed(0)
    module = MAKE[name]()
    module.dropout = 0.0
    linear = torch.nn.Linear(module.hidden_size * (1 + module.bidirectional), 2)

    def run(x):
        out, final = module(x)
        return linear(out).tanh(), final
    compiled = torch.compile(run, fullgraph=True, backend="inductor", dynamic=dynamic)
    for shape in SHAPES[:2]:
        got, want = (results(f, module, shape) for f in (compiled, run))
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_dropout_drops_when_compiled():
    module = MAKE["LSTM"]()
    run = torch.compile(module, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 2, 3)
    assert not torch.equal(run(x)[0], run(x)[0])
    module.eval()
    torch.testing.assert_close(run(x)[0], module(x)[0], rtol=1e-6, atol=1e-6)


def test_states_and_batch_first_in_one_graph():
    module = ours.LSTM(3, 4, batch_first=True)
    hx = torch.randn(1, 5, 4), torch.randn(1, 5, 4)
    run = torch.compile(module, fullgraph=True, backend="aot_eager")
    got, want = (results(f, module, (5, 2, 3), hx) for f in (run, module))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("sorted_by_length", [True, False])
def test_packed_sequences_when_compiled(sorted_by_length):
    """Without enforce_sorted in one graph; else the number of sequences is read from a tensor, outside of the graph."""
    torch.manual_seed(0)
    module = ours.GRU(3, 4)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.randn(5, 3, 3), [5, 3, 2], enforce_sorted=sorted_by_length)
    run = torch.compile(module, fullgraph=not sorted_by_length, backend="aot_eager")
    for a, b in zip(run(packed), module(packed), strict=True):
        assert torch.allclose(a.data, b.data, atol=1e-6)


@pytest.mark.parametrize("name", MAKE)
def test_export(name):
    module = MAKE[name]().eval()
    T, B = torch.export.Dim("T", min=2), torch.export.Dim("B", min=2)
    program = torch.export.export(module, (torch.randn(SHAPES[0]),), dynamic_shapes=({0: T, 1: B},))
    assert any(node.target is torch.ops.fastbptt.scan.default for node in program.graph.nodes)
    for shape in SHAPES:
        x = torch.randn(shape)
        assert torch.allclose(program.module()(x)[0], module(x)[0], atol=1e-6)
