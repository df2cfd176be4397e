"""The operators: registered as PyTorch asks for, differentiated once and in reverse mode, and refusing the rest."""
from __future__ import annotations

import pytest

import fastbptt as fb

torch = pytest.importorskip("torch")

import fastbptt.torch as ours  # noqa: E402
from fastbptt.torch import operators  # noqa: E402

# Which PyTorch calls itself, in opcheck and for tangents.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")
forward_ad = torch.autograd.forward_ad
MAKE = {
    "RNN": lambda **kw: ours.RNN(3, 4, **kw), "RNN relu": lambda **kw: ours.RNN(3, 4, nonlinearity="relu", **kw),
    "GRU": lambda **kw: ours.GRU(3, 4, **kw), "GRU before": lambda **kw: ours.GRU(3, 4, reset="before", **kw),
    "LSTM": lambda **kw: ours.LSTM(3, 4, **kw), "LSTM peephole": lambda **kw: ours.LSTM(3, 4, peephole=True, **kw),
    "LSTM without biases": lambda **kw: ours.LSTM(3, 4, bias=False, **kw),
}
makes = pytest.mark.parametrize("name", MAKE)


def recorded(run):
    """The arguments with which `run` calls the operator, their tensors as leaves."""
    calls = []
    original = operators.Eager.apply

    def apply(scan, *inputs):
        leaves = [None if t is None else t.detach().clone().requires_grad_(t.is_floating_point()) for t in inputs]
        calls.append((*leaves, *[None] * (operators.TENSORS - len(inputs)), *scan.config))
        return original(scan, *inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators.Eager, "apply", apply)
        run()
    return calls


def forms(name):
    """Arguments of one scan in each form: plain, with a state, packed in two directions, and joint layers."""
    torch.manual_seed(0)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [5, 3])
    module = MAKE[name](dtype=torch.float64)
    h = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    found = recorded(lambda: module(x)) + recorded(lambda: module(x, (h, h * 2) if isinstance(module, ours.LSTM) else h))
    found += recorded(lambda: MAKE[name](dtype=torch.float64, bidirectional=True)(packed))
    return found + recorded(lambda: MAKE[name](dtype=torch.float64, num_layers=2, dropout=0.5, truncation=fb.Truncation(3, 2))(x))


@makes
def test_opcheck(name):
    """Schema, fake tensors, autograd, and tracing with and without dynamic shapes."""
    for arguments in forms(name):
        torch.library.opcheck(operators.scan_operator, arguments)
        results = operators.scan_operator(*[a.detach() if isinstance(a, torch.Tensor) else a for a in arguments])
        errors = [torch.randn_like(r) if r.numel() else None for r in results[:3]]
        torch.library.opcheck(operators.scan_backward_operator, (*errors, *results[3:], *arguments),
                              test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))


@makes
def test_operator_and_plain_call_give_the_same_bits(name):
    module = MAKE[name](num_layers=2, bidirectional=True)
    x, found = torch.randn(5, 2, 3), []
    for through in (operators.call, lambda scan, inputs: operators.scan_operator(*inputs, *scan.config)[:3]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fastbptt.torch.modules.call", through)
            module.zero_grad()
            out, _ = module(x)
            out.sum().backward()
            found.append([out, *[p.grad for p in module.parameters()]])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@makes
def test_gradcheck_of_the_operator(name):
    for arguments in forms(name)[:3]:
        if name == "RNN relu":
            arguments = tuple([a.detach().abs().requires_grad_() if isinstance(a, torch.Tensor) and a.is_floating_point() else a
                               for a in arguments])      # away from the corner of relu
        assert torch.autograd.gradcheck(lambda *a: operators.scan_operator(*a)[:3 if name.startswith("LSTM") else 2], arguments)


# ------------------------------------------------------------------------------------ refused, never silently wrong


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("way", ["plain", "no_grad", "frozen", "autocast"])
def test_tangents_are_refused(kind, way):
    module = MAKE[kind]()
    module.requires_grad_(way == "plain")
    x = torch.randn(5, 2, 3)
    with forward_ad.dual_level(), torch.set_grad_enabled(way != "no_grad"), torch.autocast("cpu", enabled=way == "autocast"), \
            pytest.raises(NotImplementedError, match="expected differentiation in reverse mode"):
        module(forward_ad.make_dual(x, x))


@pytest.mark.parametrize("transform", [
    lambda f, x: torch.func.grad(lambda x: f(x).sum())(x), lambda f, x: torch.func.vjp(f, x),
    lambda f, x: torch.func.jvp(f, (x,), (x,)), lambda f, x: torch.func.vmap(f)(x[None]),
    lambda f, x: torch.func.jacrev(f)(x), lambda f, x: torch.func.jacfwd(f)(x)])
def test_transforms_are_refused(transform):
    module = MAKE["GRU"]()
    with pytest.raises(NotImplementedError, match="expected a plain call, got one inside a transform of torch.func"):
        transform(lambda x: module(x)[0], torch.randn(5, 2, 3))


@pytest.mark.parametrize("wanted", ["x", "state", "weight", "error"])
@pytest.mark.parametrize("through", ["plain", "operator"])
def test_second_derivatives_are_refused(wanted, through):
    """Whichever input asks for them, a term is never left out."""
    module, x, h = MAKE["GRU"](), torch.randn(5, 2, 3), torch.zeros(1, 2, 4)
    module.requires_grad_(wanted == "weight")
    leaf = {"x": x, "state": h, "weight": module.weight_hh_l0, "error": h}[wanted].requires_grad_()
    with torch.autocast("cpu", enabled=through == "operator"):
        out = module(x, h)[0]
    error = torch.ones_like(out).requires_grad_(wanted == "error")
    grad, = torch.autograd.grad(out, leaf, error, create_graph=True)
    assert grad.requires_grad
    with pytest.raises(NotImplementedError, match="expected to be differentiated once, got a second time"):
        (grad.sum() + leaf.sum()).backward()


@pytest.mark.parametrize("changed", ["x", "state", "weight"])
def test_inputs_changed_in_place_are_noticed(changed):
    module, x, h = MAKE["LSTM"](), torch.randn(5, 2, 3), torch.zeros(1, 2, 4)
    out, _ = module(x, (h, h.clone()))
    with torch.no_grad():
        {"x": x, "state": h, "weight": module.weight_hh_l0}[changed].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_results_may_be_changed_in_place():
    """As those of torch.nn may be, of a module without projection."""
    module, found = MAKE["GRU"](), []
    x = torch.randn(5, 2, 3)
    for change in (lambda t: t.relu(), lambda t: t.relu_()):
        module.zero_grad()
        change(module(x)[0]).sum().backward()
        found.append([p.grad for p in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_gradients_add_up_over_two_passes():
    for module in (MAKE["LSTM"](num_layers=2), MAKE["LSTM"](num_layers=2, truncation=fb.Truncation(3))):
        x = torch.randn(5, 2, 3)
        module(x)[0].sum().backward()
        once = [p.grad.clone() for p in module.parameters()]
        module(x)[0].sum().backward()
        assert all(torch.equal(p.grad, 2 * g) for p, g in zip(module.parameters(), once, strict=True))


def test_a_graph_is_gone_through_twice():
    module = MAKE["LSTM"]()
    out = module(torch.randn(5, 2, 3))[0].sum()
    first = torch.autograd.grad(out, list(module.parameters()), retain_graph=True)
    second = torch.autograd.grad(out, list(module.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_autocast_computes_in_float32(kind):
    """bfloat16 comes in, float32 goes out; gradients are those of the same numbers in float32."""
    module, x = MAKE[kind](), torch.randn(5, 2, 3).bfloat16()
    found = []
    for autocast in (True, False):
        module.zero_grad()
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            out, _ = module(leaf if autocast else leaf.float())
        assert out.dtype == torch.float32
        out.sum().backward()
        assert leaf.grad.dtype == torch.bfloat16
        found.append([out, leaf.grad, *[p.grad for p in module.parameters()]])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
