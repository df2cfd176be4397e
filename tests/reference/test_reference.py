"""The oracle against constructions that share nothing with it: autograd of PyTorch, finite differences, formulas by hand."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

from fastbptt import reference as ref

GATES = {"rnn": 1, "gru_after": 3, "gru_before": 3, "lstm": 4, "lstm_peephole": 4}
KINDS = list(GATES)
ACTIVATIONS = ["tanh", "sigmoid", "relu", "leaky_relu", "identity"]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def close(got, want, rtol=1e-10, atol=1e-12):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


def make_layer(rng, kind, inputs, hidden, **options):
    """Random parameters, the recurrent ones large enough for gradients to travel."""
    shapes = {
        "U": (GATES[kind] * hidden, inputs),
        "W": (GATES[kind] * hidden, hidden),
        "b": (GATES[kind] * hidden,),
        "b_hn": (hidden,),
        "P": (3, hidden),
    }
    scale = {"W": 1.2 / np.sqrt(hidden)}
    params = {name: scale.get(name, 0.5) * rng.normal(size=shapes[name]) for name in ref.NAMES[kind]}
    return ref.Layer(kind, params, **options)


def make_state(rng, layer, batch):
    """(h,) or (h, c)."""
    hidden = layer.params["W"].shape[1]
    return tuple(0.5 * rng.normal(size=(batch, hidden)) for _ in range(2 if layer.kind.startswith("lstm") else 1))


def problem(rng, kinds, T, B, inputs, hidden, **options):
    """Layers, x, states and dh of a stack."""
    sizes = [inputs] + [hidden] * len(kinds)
    layers = [make_layer(rng, kind, size, hidden, **options) for kind, size in zip(kinds, sizes, strict=False)]
    states = [make_state(rng, layer, B) for layer in layers]
    return layers, rng.normal(size=(T, B, inputs)), states, rng.normal(size=(T, B, hidden))


# --- the other construction: one sequence at a time in torch, truncation by detached states ---


def torch_step(torch, layer, p, x, s, noise):
    """One step of one sequence as its published formula; s is h or h followed by c."""
    size = p["W"].shape[1]
    h, c = s[:size], s[size:]
    if layer.kind == "rnn":
        function = {
            "tanh": torch.tanh,
            "sigmoid": torch.sigmoid,
            "relu": torch.relu,
            "leaky_relu": lambda a: torch.nn.functional.leaky_relu(a, 0.01),
            "identity": lambda a: a,
        }[layer.activation]
        W = p["W"] if layer.mask is None else p["W"] * torch.tensor(np.asarray(layer.mask, dtype=float))
        return (1 - layer.leak) * h + layer.leak * function(p["U"] @ x + W @ h + p["b"] + noise)
    u = p["U"] @ x + p["b"]
    if layer.kind.startswith("gru"):
        W_rz, W_n = p["W"][: 2 * size], p["W"][2 * size :]
        r, z = torch.sigmoid(u[: 2 * size] + W_rz @ h).chunk(2)
        recurrent = r * (W_n @ h + p["b_hn"]) if layer.kind == "gru_after" else W_n @ (r * h)
        n = torch.tanh(u[2 * size :] + recurrent)
        return n + z * (h - n)
    i, f, g, o = (u + p["W"] @ h).chunk(4)
    if layer.kind == "lstm_peephole":
        i, f = i + p["P"][0] * c, f + p["P"][1] * c
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    if layer.kind == "lstm_peephole":
        o = o + p["P"][2] * c
    return torch.cat([torch.sigmoid(o) * torch.tanh(c), c])


def clipped(state, limit):
    """The same state, whose error is scaled to the limit on its way back."""
    state = state * 1.0
    if limit is not None and state.requires_grad:
        state.register_hook(lambda error: error * min(1.0, limit / float(error.norm())) if error.norm() > 0 else error)
    return state


Truth = namedtuple("Truth", "params x states h final")


def truth(torch, layers, x, states, dh, lengths=None, resets=None, truncation=None, clip=None, dropout=()):
    """Gradients by autograd: every end re-runs the network from the detached state `horizon` steps back."""
    T, B, _ = x.shape
    params = [{k: torch.tensor(v, requires_grad=True) for k, v in layer.params.items()} for layer in layers]
    noises = [
        np.zeros((T, B, p["W"].shape[1])) if layer.noise is None else layer.noise for layer, p in zip(layers, params, strict=True)
    ]
    lengths = np.full(B, T) if lengths is None else lengths
    resets = np.zeros((T, B), dtype=bool) if resets is None else resets
    dx = np.zeros(x.shape)
    h = np.zeros(dh.shape)
    dstates = [np.zeros_like(np.concatenate(state, axis=-1)) for state in states]
    final = [np.zeros_like(array) for array in dstates]
    for b in range(B):
        n = int(lengths[b])
        xb = torch.tensor(x[:n, b], requires_grad=True)
        start = [torch.tensor(np.concatenate([array[b] for array in state]), requires_grad=True) for state in states]

        def advance(t, old, b=b, xb=xb, start=start):
            old = start if resets[t - 1, b] else old
            new, signal = [], xb[t - 1]
            for depth, (layer, p) in enumerate(zip(layers, params, strict=True)):
                noise = torch.tensor(noises[depth][t - 1, b])
                new.append(torch_step(torch, layer, p, signal, clipped(old[depth], clip), noise))
                signal = new[-1][: p["W"].shape[1]]
                if dropout and depth < len(dropout):
                    signal = signal * torch.tensor(dropout[depth][t - 1, b])
            return new

        with torch.no_grad():
            history = [start]
            for t in range(1, n + 1):
                history.append(advance(t, history[-1]))
                h[t - 1, b] = history[-1][-1][: dh.shape[-1]]
        h[n:, b] = h[n - 1, b]
        horizon, stride = truncation or (n, n)
        previous = 0
        for end in [e for e in range(1, n + 1) if e % stride == 0 or e == n]:
            begin = max(0, end - horizon)
            state = start if begin == 0 else [array.detach() for array in history[begin]]
            loss = 0.0
            for t in range(begin + 1, end + 1):
                state = advance(t, state)
                if t > previous:
                    loss = loss + state[-1][: dh.shape[-1]] @ torch.tensor(dh[t - 1, b])
            loss.backward()
            previous = end
        dx[:n, b] = xb.grad
        for depth in range(len(layers)):
            dstates[depth][b] = start[depth].grad
            final[depth][b] = history[-1][depth]
    return Truth([{k: v.grad.numpy() for k, v in p.items()} for p in params], dx, dstates, h, final)


def assert_truth(tape, grads, want):
    """Outputs and all gradients of a stack."""
    close(tape.h[1:], want.h)
    close(grads.x, want.x)
    for depth, params in enumerate(want.params):
        assert list(grads.params[depth]) == list(params)
        for name, array in params.items():
            close(grads.params[depth][name], array)
        close(np.concatenate(grads.state[depth], axis=-1), want.states[depth])
        close(np.concatenate(tape.final[depth], axis=-1), want.final[depth])


def compare(torch, layers, x, states, dh, lengths=None, resets=None, truncation=None, clip=None, dropout=()):
    tape = ref.stack_forward(layers, x, states, lengths, resets, dropout)
    grads = ref.stack_backward(tape, dh, truncation, clip)
    assert_truth(tape, grads, truth(torch, layers, x, states, dh, lengths, resets, truncation, clip, dropout))


# --- activations ---


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivative_from_the_output_is_the_slope(name):
    a = np.array([-3.0, -0.7, -1e-3, 1e-3, 0.4, 2.5])
    slope = (ref.activation(name, a + 1e-6) - ref.activation(name, a - 1e-6)) / 2e-6
    close(ref.derivative(name, ref.activation(name, a)), slope, rtol=1e-8)


def test_rectifiers_at_zero():
    zero = np.zeros(1)
    assert ref.derivative("relu", ref.activation("relu", zero)) == 0.0
    assert ref.derivative("leaky_relu", ref.activation("leaky_relu", zero)) == 0.01


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_passes_and_large_arguments_do_not_overflow(name):
    with np.errstate(all="raise", under="ignore"):
        values = ref.activation(name, np.array([-1e5, 1e5]))
    assert np.isfinite(values).all()
    assert np.isnan(ref.activation(name, np.array([np.nan])))[0]


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="activation: unknown name 'gelu'"):
        ref.activation("gelu", np.zeros(1))
    with pytest.raises(ValueError, match="activation: unknown name 'gelu'"):
        ref.derivative("gelu", np.zeros(1))
    with pytest.raises(ValueError, match="loss: unknown name 'hinge'"):
        ref.point_loss("hinge", np.zeros(1), 0)


# --- cells against PyTorch ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("T, B, inputs, hidden", [(1, 1, 1, 1), (7, 2, 3, 5), (3, 1, 37, 7), (2, 2, 1, 37)])
def test_cells_match_autograd(torch, kind, T, B, inputs, hidden):
    compare(torch, *problem(np.random.default_rng(T), [kind], T, B, inputs, hidden))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_rnn_activations_match_autograd(torch, name):
    compare(torch, *problem(np.random.default_rng(1), ["rnn"], 7, 2, 3, 5, activation=name))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_leak_mask_and_noise_match_autograd(torch, name):
    rng = np.random.default_rng(2)
    options = {"activation": name, "leak": 0.3, "noise": rng.normal(size=(7, 2, 5)), "mask": rng.random((5, 5)) < 0.5}
    layers, x, states, dh = problem(rng, ["rnn"], 7, 2, 3, 5, **options)
    compare(torch, layers, x, states, dh)
    tape = ref.forward("rnn", layers[0].params, x, states[0], **options)
    assert np.all(ref.backward(tape, dh).params["W"][~options["mask"]] == 0.0)


@pytest.mark.parametrize("kind, module", [("rnn", "RNN"), ("gru_after", "GRU"), ("lstm", "LSTM")])
@pytest.mark.parametrize("depth", [1, 2])
def test_modules_of_torch(torch, kind, module, depth):
    T, B, inputs, hidden = 7, 3, 4, 5
    layers, x, states, dh = problem(np.random.default_rng(3), [kind] * depth, T, B, inputs, hidden)
    net = getattr(torch.nn, module)(inputs, hidden, depth).double()
    load_module(torch, net, [(layer, f"l{i}") for i, layer in enumerate(layers)])
    xt = torch.tensor(x, requires_grad=True)
    start = [torch.tensor(np.stack([state[k] for state in states]), requires_grad=True) for k in range(len(states[0]))]
    y, last = net(xt, tuple(start) if kind == "lstm" else start[0])
    (y * torch.tensor(dh)).sum().backward()

    tape = ref.stack_forward(layers, x, states)
    grads = ref.stack_backward(tape, dh)
    close(tape.h[1:], y.detach())
    close(grads.x, xt.grad)
    for k, (value, given) in enumerate(zip(last if kind == "lstm" else [last], start, strict=True)):
        close([state[k] for state in tape.final], value.detach())
        close([state[k] for state in grads.state], given.grad)
    for i in range(depth):
        check_module(net, grads.params[i], f"l{i}")


def load_module(torch, net, named_layers):
    """b goes to bias_ih, and b_hn to its place in bias_hh."""
    with torch.no_grad():
        for layer, suffix in named_layers:
            p = layer.params
            bias_hh = np.zeros_like(p["b"])
            if "b_hn" in p:
                bias_hh[-len(p["b_hn"]) :] = p["b_hn"]
            for name, array in {"weight_ih": p["U"], "weight_hh": p["W"], "bias_ih": p["b"], "bias_hh": bias_hh}.items():
                getattr(net, f"{name}_{suffix}").copy_(torch.tensor(array))


def check_module(net, params, suffix):
    close(params["U"], getattr(net, f"weight_ih_{suffix}").grad)
    close(params["W"], getattr(net, f"weight_hh_{suffix}").grad)
    close(params["b"], getattr(net, f"bias_ih_{suffix}").grad)
    if "b_hn" in params:
        close(params["b_hn"], getattr(net, f"bias_hh_{suffix}").grad[-len(params["b_hn"]) :])


@pytest.mark.parametrize("kind", KINDS)
def test_directional_differences(kind):
    """The gradient along a random direction in params, x and state at once is the central difference of L."""
    rng = np.random.default_rng(4)
    (layer,), x, (state,), dh = problem(rng, [kind], 7, 2, 3, 5)
    grads = ref.backward(ref.forward(kind, layer.params, x, state), dh)
    way = {name: rng.normal(size=array.shape) for name, array in layer.params.items()}
    way_x, way_state = rng.normal(size=x.shape), tuple(rng.normal(size=array.shape) for array in state)

    def value(eps):
        params = {name: array + eps * way[name] for name, array in layer.params.items()}
        moved = tuple(array + eps * w for array, w in zip(state, way_state, strict=True))
        return np.sum(dh * ref.forward(kind, params, x + eps * way_x, moved).h[1:])

    slope = sum(np.sum(grads.params[name] * way[name]) for name in way) + np.sum(grads.x * way_x)
    slope += sum(np.sum(array * w) for array, w in zip(grads.state, way_state, strict=True))
    close(slope, (value(1e-5) - value(-1e-5)) / 2e-5, rtol=1e-7)


def test_params_as_tuple_and_state_as_array():
    (layer,), x, (state,), _ = problem(np.random.default_rng(5), ["rnn"], 3, 2, 3, 4)
    named = namedtuple("Named", "U W b")(**layer.params)
    close(ref.forward("rnn", named, x, state[0]).h, ref.forward("rnn", layer.params, x, state).h, rtol=0, atol=0)
    assert np.all(ref.forward("rnn", named, x).h[0] == 0.0)


def test_lstm_gives_all_cell_states():
    (layer,), x, (state,), _ = problem(np.random.default_rng(6), ["lstm"], 3, 2, 3, 4)
    tape = ref.forward("lstm", layer.params, x, state)
    assert tape.c.shape == (4, 2, 4)
    close(tape.c[0], state[1], atol=0)
    close(tape.c[-1], tape.final[0][1], atol=0)


# --- ids, lengths, resets ---


@pytest.mark.parametrize("kind", KINDS)
def test_ids_stand_for_one_hot_vectors(kind):
    rng = np.random.default_rng(7)
    (layer,), _, (state,), dh = problem(rng, [kind], 7, 3, 4, 5)
    ids, lengths = rng.integers(0, 4, size=(7, 3)), np.array([7, 1, 4])
    vectors = ref.forward(kind, layer.params, np.eye(4)[ids], state, lengths)
    for b, n in enumerate(lengths):
        ids[n:, b] = -99
    tape = ref.forward(kind, layer.params, ids, state, lengths)
    close(tape.h, vectors.h, rtol=0, atol=0)
    got, want = ref.backward(tape, dh), ref.backward(vectors, dh)
    assert got.x is None
    for name, array in want.params.items():
        close(got.params[name], array, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("truncation", [None, (3, 2)])
def test_padding_is_not_read(torch, kind, truncation):
    rng = np.random.default_rng(8)
    lengths = np.array([7, 1, 4])
    layers, x, states, dh = problem(rng, [kind], 7, 3, 2, 5)
    want = truth(torch, layers, x, states, dh, lengths, truncation=truncation)
    for b, n in enumerate(lengths):
        x[n:, b] = dh[n:, b] = np.nan
    tape = ref.stack_forward(layers, x, states, lengths)
    grads = ref.stack_backward(tape, dh, truncation)
    assert_truth(tape, grads, want)
    for b, n in enumerate(lengths):
        assert np.all(grads.x[n:, b] == 0.0)
        assert np.all(tape.h[n:, b] == tape.h[n, b])


RESETS = np.zeros((9, 2), dtype=bool)
RESETS[[0, 4, 5], 0] = RESETS[[3, 8], 1] = True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("truncation", [None, (3, 2), (4, 1), (2, 2)])
def test_resets_return_to_the_initial_state(torch, kind, truncation):
    problem_ = problem(np.random.default_rng(9), [kind], 9, 2, 3, 4)
    compare(torch, *problem_, lengths=np.array([9, 6]), resets=RESETS, truncation=truncation)


def test_a_reset_cuts_one_stream_into_two():
    (layer,), x, (state,), dh = problem(np.random.default_rng(10), ["gru_after"], 9, 1, 3, 4)
    resets = np.zeros((9, 1), dtype=bool)
    resets[4] = True
    whole = ref.backward(ref.forward("gru_after", layer.params, x, state, resets=resets), dh)
    parts = [ref.backward(ref.forward("gru_after", layer.params, x[s], state), dh[s]) for s in (slice(0, 4), slice(4, 9))]
    close(whole.state[0], parts[0].state[0] + parts[1].state[0])
    close(whole.params["W"], parts[0].params["W"] + parts[1].params["W"])


# --- truncation ---


def test_ends():
    assert ref.ends(7, 3) == [3, 6, 7]
    assert ref.ends(6, 3) == [3, 6]
    assert ref.ends(1, 3) == [1]
    assert ref.ends(4, 1) == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("truncation", [(1, 1), (2, 1), (5, 1), (3, 3), (5, 2), (8, 3), (11, 4), (10, 10), (37, 37)])
def test_truncation_matches_detached_states(torch, kind, truncation):
    problem_ = problem(np.random.default_rng(11), [kind], 11, 2, 2, 3)
    compare(torch, *problem_, lengths=np.array([11, 5]), truncation=truncation)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride", [1, 3, 7])
def test_a_long_horizon_is_the_full_gradient(kind, stride):
    (layer,), x, (state,), dh = problem(np.random.default_rng(12), [kind], 7, 2, 3, 4)
    tape = ref.forward(kind, layer.params, x, state)
    full, cut = ref.backward(tape, dh), ref.backward(tape, dh, (7, stride))
    close(cut.x, full.x)
    close(cut.state[0], full.state[0])
    for name, array in full.params.items():
        close(cut.params[name], array)
    assert not np.allclose(ref.backward(tape, dh, (3, 1)).params["W"], full.params["W"])


@pytest.mark.parametrize("kinds", [["rnn", "rnn"], ["gru_before", "lstm"], ["lstm_peephole", "gru_after"]])
@pytest.mark.parametrize("truncation", [None, (1, 1), (4, 2), (3, 3)])
def test_stacks_match_autograd_of_the_joint_state(torch, kinds, truncation):
    rng = np.random.default_rng(13)
    resets = np.zeros((8, 2), dtype=bool)
    resets[5, 0] = True
    dropout = [2.0 * (rng.random((8, 2, 4)) < 0.5)]
    compare(torch, *problem(rng, kinds, 8, 2, 3, 4), np.array([8, 5]), resets, truncation, dropout=dropout)


def test_joint_truncation_reaches_less_far_than_layer_by_layer():
    layers, x, states, dh = problem(np.random.default_rng(14), ["rnn", "rnn"], 6, 1, 3, 4)
    tape = ref.stack_forward(layers, x, states)
    below = ref.forward("rnn", layers[0].params, x, states[0])
    above = ref.forward("rnn", layers[1].params, below.h[1:], states[1])
    joint = ref.stack_backward(tape, dh, (2, 1))
    by_layer = ref.backward(below, ref.backward(above, dh, (2, 1)).x, (2, 1))
    close(joint.params[1]["W"], ref.backward(above, dh, (2, 1)).params["W"])
    assert not np.allclose(joint.params[0]["W"], by_layer.params["W"])


@pytest.mark.parametrize("kind, module", [("rnn", "RNN"), ("gru_after", "GRU"), ("lstm", "LSTM")])
def test_two_directions_match_packed_sequences(torch, kind, module):
    rng = np.random.default_rng(15)
    T, B, inputs, hidden, lengths = 6, 3, 2, 4, np.array([6, 1, 4])
    pairs = [tuple(make_layer(rng, kind, size, hidden) for _ in range(2)) for size in (inputs, 2 * hidden)]
    states = [tuple(make_state(rng, layer, B) for layer in pair) for pair in pairs]
    x, dy = rng.normal(size=(T, B, inputs)), rng.normal(size=(T, B, 2 * hidden))
    net = getattr(torch.nn, module)(inputs, hidden, 2, bidirectional=True).double()
    names = [(layer, f"l{i}{end}") for i, pair in enumerate(pairs) for layer, end in zip(pair, ("", "_reverse"), strict=True)]
    load_module(torch, net, names)
    xt = torch.tensor(x, requires_grad=True)
    flat = [state for pair in states for state in pair]
    start = [torch.tensor(np.stack([state[k] for state in flat]), requires_grad=True) for k in range(len(flat[0]))]
    pack = torch.nn.utils.rnn
    packed = pack.pack_padded_sequence(xt, torch.tensor(lengths), enforce_sorted=False)
    y, _ = pack.pad_packed_sequence(net(packed, tuple(start) if kind == "lstm" else start[0])[0])
    (y * torch.tensor(dy)).sum().backward()

    for b, n in enumerate(lengths):
        x[n:, b] = dy[n:, b] = np.nan
    run = ref.bidirectional_forward(pairs, x, states, lengths)
    grads = ref.bidirectional_backward(run, dy)
    for b, n in enumerate(lengths):
        close(run.output[:n, b], y.detach()[:n, b])
    close(grads.x, xt.grad)
    got = [state for pair in grads.state for state in pair]
    for k, given in enumerate(start):
        close([state[k] for state in got], given.grad)
    for params, (_, suffix) in zip([p for pair in grads.params for p in pair], names, strict=True):
        check_module(net, params, suffix)


def test_dropout_between_bidirectional_layers_scales_values_and_errors():
    rng = np.random.default_rng(16)
    pairs = [tuple(make_layer(rng, "rnn", size, 3) for _ in range(2)) for size in (2, 6)]
    x, dy, factors = rng.normal(size=(4, 1, 2)), rng.normal(size=(4, 1, 6)), 2.0 * (rng.random((4, 1, 6)) < 0.5)
    grads = ref.bidirectional_backward(ref.bidirectional_forward(pairs, x, dropout=[factors]), dy)
    way = rng.normal(size=x.shape)
    up, down = (np.sum(dy * ref.bidirectional_forward(pairs, x + e * way, dropout=[factors]).output) for e in (1e-5, -1e-5))
    close(np.sum(grads.x * way), (up - down) / 2e-5, rtol=1e-7)


# --- clipping inside the recurrence ---


@pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] + [["lstm", "rnn"]])
@pytest.mark.parametrize("truncation", [None, (4, 2)])
def test_clip_state_matches_hooks_of_autograd(torch, kinds, truncation):
    problem_ = problem(np.random.default_rng(17), kinds, 7, 2, 3, 4)
    resets = np.zeros((7, 2), dtype=bool)
    resets[4, 1] = True
    compare(torch, *problem_, lengths=np.array([7, 6]), resets=resets, truncation=truncation, clip=0.5)


def test_clip_state_limits_what_is_carried():
    (layer,), x, (state,), dh = problem(np.random.default_rng(18), ["lstm"], 7, 2, 3, 4)
    tape = ref.forward("lstm", layer.params, x, state)
    free, tight = ref.backward(tape, dh), ref.backward(tape, dh, clip_state=0.25)
    norms = np.linalg.norm(np.concatenate(free.state, axis=-1), axis=-1)
    assert norms.min() > 0.25
    close(np.linalg.norm(np.concatenate(tight.state, axis=-1), axis=-1), 0.25)
    loose = ref.backward(tape, dh, clip_state=1e6)
    close(loose.params["W"], free.params["W"], rtol=0, atol=0)


# --- gradients as data ---


@pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] + [["gru_after", "lstm"]])
def test_lags_add_up(kinds):
    rng = np.random.default_rng(19)
    layers, x, states, dh = problem(rng, kinds, 7, 2, 3, 4)
    resets = np.zeros((7, 2), dtype=bool)
    resets[4, 0] = True
    tape = ref.stack_forward(layers, x, states, [7, 5], resets)
    lags = ref.lag_gradients(tape, dh, 7)
    for horizon in (1, 3, 7):
        want = ref.stack_backward(tape, dh, (horizon, 1))
        for layer, arrays in zip(want.params, lags, strict=True):
            for name, array in layer.items():
                close(arrays[name][:horizon].sum(axis=0), array)


def test_one_lag_of_a_scalar_chain():
    """h_t = w h_{t−1} + x_t: an error at t = 4 reaches step 2 as w², and meets h_1 there."""
    params = {"U": [[1.0]], "W": [[0.5]], "b": [0.0]}
    tape = ref.forward("rnn", params, np.ones((4, 1, 1)), activation="identity")
    dh = np.zeros((4, 1, 1))
    dh[3] = 1.0
    (lags,) = ref.lag_gradients(tape, dh, 4)
    close(lags["W"].ravel(), [tape.h[3, 0, 0], 0.5 * tape.h[2, 0, 0], 0.25 * tape.h[1, 0, 0], 0.0])


@pytest.mark.parametrize("kind", KINDS)
def test_step_gradients_are_the_parts_of_the_gradient(torch, kind):
    layers, x, states, dh = problem(np.random.default_rng(20), [kind], 6, 2, 3, 4)
    tape = ref.stack_forward(layers, x, states, [6, 4])
    errors, (parts,) = ref.step_gradients(tape, dh)
    for name, array in ref.backward(tape, dh).params.items():
        close(parts[name].sum(axis=(0, 1)), array)
    assert np.all(parts["W"][4:, 1] == 0.0)
    # ∂L/∂state_4 of sequence 0 is the gradient of the initial state of a run from there, and the error injected at 4 itself
    rest = ref.forward(kind, layers[0].params, x[4:, :1], tuple(array[4, :1] for array in tape.layers[0]))
    want = np.concatenate(ref.backward(rest, dh[4:, :1]).state, axis=-1)[0]
    want[:4] += dh[3, 0]
    close(errors[3, 0], want)


@pytest.mark.parametrize("kind", KINDS)
def test_jacobians_match_autograd(torch, kind):
    rng = np.random.default_rng(21)
    options = {"activation": "sigmoid", "leak": 0.3, "noise": rng.normal(size=(5, 2, 4))} if kind == "rnn" else {}
    layers, x, states, _ = problem(rng, [kind], 5, 2, 3, 4, **options)
    resets = np.zeros((5, 2), dtype=bool)
    resets[2, 0] = True
    tape = ref.stack_forward(layers, x, states, [5, 3], resets)
    J = ref.jacobians(tape)
    p = {name: torch.tensor(array) for name, array in layers[0].params.items()}
    for t, b in [(0, 0), (1, 0), (3, 0), (4, 0), (0, 1), (2, 1)]:
        noise = torch.tensor(options["noise"][t, b]) if options else 0.0

        def function(s, t=t, b=b, noise=noise):
            return torch_step(torch, layers[0], p, torch.tensor(x[t, b]), s, noise)

        close(J[t, b], torch.autograd.functional.jacobian(function, torch.tensor(tape.states[t, b])))
    assert np.all(J[2, 0] == 0.0)
    assert np.all(J[3:, 1] == np.eye(J.shape[-1]))


@pytest.mark.parametrize("kinds", [["rnn", "rnn"], ["lstm_peephole", "gru_before"]])
def test_stack_jacobians_match_differences(kinds):
    layers, x, states, _ = problem(np.random.default_rng(22), kinds, 3, 1, 2, 3)
    tape = ref.stack_forward(layers, x, states)
    J, eps = ref.jacobians(tape), 1e-6

    def after(joint):
        return ref.stack_forward(layers, x[:1], ref.split_state(tape.cells, joint)).states[1, 0]

    start = tape.states[0]
    for k, unit in enumerate(np.eye(start.shape[1])):
        close(J[0, 0][:, k], (after(start + eps * unit) - after(start - eps * unit)) / (2 * eps), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_jacobian_products_carry_errors_and_obey_the_bounds(kind):
    (layer,), x, (state,), dh = problem(np.random.default_rng(23), [kind], 6, 2, 3, 4)
    tape = ref.forward(kind, layer.params, x, state)
    J = ref.jacobians(tape)
    dh[:-1] = 0.0
    product = ref.jacobian_product(J, 0, 6)
    want = np.concatenate(ref.backward(tape, dh).state, axis=-1)
    close(np.einsum("bh,bhs->bs", dh[-1], product[:, :4]), want)
    assert np.all(ref.jacobian_product(J, 2, 2) == np.eye(J.shape[-1]))
    for start, stop in [(0, 6), (1, 4), (3, 4)]:
        norms = np.linalg.norm(ref.jacobian_product(J, start, stop), 2, axis=(-2, -1))
        assert np.all(norms <= ref.measured_bound(J, start, stop) * (1 + 1e-12))
    close(norms, ref.measured_bound(J, 3, 4))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("leak", [1.0, 0.3])
def test_norm_bound_of_the_vanilla_rnn(name, leak):
    (layer,), x, (state,), _ = problem(np.random.default_rng(24), ["rnn"], 6, 2, 3, 4)
    J = ref.jacobians(ref.forward("rnn", layer.params, x, state, activation=name, leak=leak))
    norms = np.linalg.norm(ref.jacobian_product(J, 1, 5), 2, axis=(-2, -1))
    assert np.all(norms <= ref.norm_bound(layer.params["W"], name, 4, leak) * (1 + 1e-12))
    assert 0.0 < norms.min()


def test_norm_bound_values():
    assert ref.norm_bound([[2.0]], "sigmoid", 3) == 0.125
    assert ref.norm_bound([[2.0]], "tanh", 3, leak=0.5) == 1.5**3


@pytest.mark.parametrize("w, factor", [(0.5, 0.0009765625), (1.5, 57.6650390625)])
def test_scalar_chains(w, factor):
    tape = ref.forward(
        "rnn", {"U": [[0.0]], "W": [[w]], "b": [0.0]}, np.zeros((10, 1, 1)), np.ones((1, 1)), activation="identity"
    )
    dh = np.zeros((10, 1, 1))
    dh[-1] = 1.0
    assert tape.h[10, 0, 0] == factor
    assert ref.backward(tape, dh).state[0][0, 0] == factor
    assert ref.jacobian_product(ref.jacobians(tape), 0, 10)[0, 0, 0] == factor
    close(ref.lyapunov(ref.jacobians(tape)), [[np.log(w)]])


def test_lyapunov_exponents_add_up_to_the_log_determinant():
    (layer,), x, (state,), _ = problem(np.random.default_rng(25), ["lstm"], 40, 2, 3, 4)
    J = ref.jacobians(ref.forward("lstm", layer.params, x, state))
    exponents = ref.lyapunov(J)
    close(exponents.sum(axis=1), np.linalg.slogdet(J)[1].mean(axis=0))
    assert np.all(np.diff(exponents, axis=1) <= 0.0)
    close(ref.lyapunov(J, k=1)[:, 0], np.log(np.abs(leading(J))) / 40)
    assert not np.allclose(ref.lyapunov(J, transient=20), exponents)
    close(ref.lyapunov(J, transient=20).sum(axis=1), np.linalg.slogdet(J[20:])[1].mean(axis=0))


def leading(J):
    """‖J_T … J_1 e_1‖: what the first exponent measures with Q = e_1 at the start."""
    return np.linalg.norm(ref.jacobian_product(J, 0, len(J))[..., 0], axis=-1)


def test_lyapunov_of_known_and_of_singular_steps():
    diagonal = np.broadcast_to(np.diag([0.25, 3.0, 1.0]), (20, 1, 3, 3))
    close(ref.lyapunov(diagonal), [[np.log(3.0), 0.0, np.log(0.25)]])
    singular = np.broadcast_to(np.outer([1.0, 2.0], [0.5, 0.25]), (20, 1, 2, 2))  # eigenvalues 1 and 0
    close(ref.lyapunov(singular, transient=5)[0, 0], 0.0)
    assert ref.lyapunov(singular)[0, 1] == -np.inf
    assert np.all(ref.lyapunov(np.zeros((3, 1, 2, 2))) == -np.inf)


def test_lyapunov_calls_what_rounding_leaves_of_a_singular_step_singular():
    rng = np.random.default_rng(32)
    rank_two = rng.normal(size=(30, 1, 5, 2)) @ rng.normal(size=(30, 1, 2, 5))
    exponents = ref.lyapunov(rank_two)[0]
    assert np.isfinite(exponents[:2]).all() and np.all(exponents[2:] == -np.inf)
    dead = rng.normal(size=(30, 1, 5, 5))
    dead[:, :, 2] = 0.0  # a ReLU unit that never fires
    exponents = ref.lyapunov(dead)[0]
    assert np.isfinite(exponents[:4]).all() and exponents[4] == -np.inf


# --- readout and losses ---


def targets(rng, loss, leading_shape, outputs):
    if loss == "softmax_cross_entropy":
        return rng.integers(0, outputs, size=leading_shape)
    y = rng.random(size=(*leading_shape, outputs))
    return y if loss == "squared_error" else (y < 0.5).astype(float)


LOSSES = ["squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("mode", ["many_to_many", "many_to_one"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("outputs", [1, 7])
def test_losses_match_torch(torch, loss, mode, reduction, outputs):
    rng = np.random.default_rng(26)
    T, B, lengths = 5, 3, np.array([5, 1, 3])
    z, weights = 3 * rng.normal(size=(T, B, outputs)), rng.random((T, B)) + 0.5
    weights[0, 0] = weights[2, 2] = 0.0
    y = targets(rng, loss, (T, B) if mode == "many_to_many" else (B,), outputs)
    zt = torch.tensor(z, requires_grad=True)
    F, terms = torch.nn.functional, []
    for b, n in enumerate(lengths):
        for t in range(n) if mode == "many_to_many" else [n - 1]:
            target = torch.tensor(y[t, b] if mode == "many_to_many" else y[b])
            value = {
                "squared_error": lambda a, b: 0.5 * F.mse_loss(a, b, reduction="sum"),
                "sigmoid_cross_entropy": lambda a, b: F.binary_cross_entropy_with_logits(a, b, reduction="sum"),
                "softmax_cross_entropy": F.cross_entropy,
            }[loss](zt[t, b], target)
            if weights[t, b] > 0:
                terms.append(weights[t, b] * value)
    total = sum(terms) / (len(terms) if reduction == "mean" else 1)
    total.backward()

    for b, n in enumerate(lengths):
        z[n:, b] = np.nan
    z[weights == 0.0] = np.nan
    got, per_step, dz = ref.loss_and_grad(loss, z, y, lengths, weights, mode, reduction)
    close(got, total.item())
    close(per_step.sum() / (len(terms) if reduction == "mean" else 1), got)
    close(dz, zt.grad)


def test_losses_by_hand():
    value, dz = ref.point_loss("squared_error", np.array([1.0, -2.0]), np.array([0.0, 1.0]))
    assert value == 5.0 and dz.tolist() == [1.0, -3.0]
    close(ref.point_loss("softmax_cross_entropy", np.zeros(4), 2)[0], np.log(4.0))
    close(ref.point_loss("sigmoid_cross_entropy", np.zeros(3), np.array([0.0, 1.0, 0.25]))[0], 3 * np.log(2.0))


@pytest.mark.parametrize("size", [50.0, 1e3, 1e300, 1.7e308])
def test_cross_entropies_are_stable(size):
    with np.errstate(all="raise", under="ignore"):
        right, dz = ref.point_loss("softmax_cross_entropy", np.array([size, -size / 2, 0.0]), 0)
        wrong, _ = ref.point_loss("softmax_cross_entropy", np.array([size, -size / 2, 0.0]), 2)
        assert right == 0.0 or size == 50.0
        assert np.all(np.isfinite(dz))
        close(wrong, size)
        good, _ = ref.point_loss("sigmoid_cross_entropy", np.array([size, -size]), np.array([1.0, 0.0]))
        bad, dz = ref.point_loss("sigmoid_cross_entropy", np.array([size, -size / 2]), np.array([0.0, 0.0]))
    assert 0.0 <= good < 1e-21
    close(bad, size)
    close(dz, [1.0, 0.0], atol=1e-10)


def test_softmax_does_not_see_a_common_offset():
    close(ref.point_loss("softmax_cross_entropy", np.array([1e12, 1e12 + 1.0]), 1)[0], np.log1p(np.exp(-1.0)))


def test_opposite_largest_logits_overflow_quietly():
    with np.errstate(all="raise", under="ignore"):
        value, dz = ref.point_loss("softmax_cross_entropy", np.array([1.7e308, -1.7e308]), 0)
    assert value == 0.0 and dz.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("loss", LOSSES)
def test_outputs_match_torch(torch, loss):
    z = np.random.default_rng(27).normal(size=(3, 2, 4))
    function = {
        "squared_error": lambda a: a,
        "sigmoid_cross_entropy": torch.sigmoid,
        "softmax_cross_entropy": lambda a: a.softmax(-1),
    }[loss]
    close(ref.output(loss, z), function(torch.tensor(z)))


def test_all_weights_zero_gives_zero():
    value, terms, dz = ref.loss_and_grad(
        "squared_error", np.ones((2, 1, 1)), np.zeros((2, 1, 1)), weights=np.zeros((2, 1)), reduction="mean"
    )
    assert value == 0.0 and not terms.any() and not dz.any()


def test_readout_gradients_match_autograd(torch):
    rng = np.random.default_rng(28)
    V, c, h, dz = (rng.normal(size=shape) for shape in [(2, 4), (2,), (5, 3, 4), (5, 3, 2)])
    leaves = [torch.tensor(a, requires_grad=True) for a in (V, c, h)]
    z = leaves[2] @ leaves[0].T + leaves[1]
    (z * torch.tensor(dz)).sum().backward()
    close(ref.readout_forward(V, c, h), z.detach())
    for got, leaf in zip(ref.readout_backward(V, h, dz), leaves, strict=True):
        close(got, leaf.grad)


def test_squared_error_gives_the_textbook_gradient_of_the_readout():
    """∂L/∂V = (ŷ − y) hᵀ."""
    rng = np.random.default_rng(29)
    V, c, h, y = (rng.normal(size=shape) for shape in [(2, 4), (2,), (1, 1, 4), (1, 1, 2)])
    z = ref.readout_forward(V, c, h)
    _, _, dz = ref.loss_and_grad("squared_error", z, y)
    close(ref.readout_backward(V, h, dz)[0], np.outer(z[0, 0] - y[0, 0], h[0, 0]))


# --- for study ---


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_explicit_tensor_is_the_partial_derivative_with_the_past_held(name):
    rng = np.random.default_rng(30)
    W, past, u = rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=3)

    def h(M):
        return ref.activation(name, u + M @ past)

    tensor = ref.explicit_tensor(name, h(W), past)
    assert tensor.shape == (3, 3, 3)
    for q in range(3):
        for r in range(3):
            bump = np.zeros((3, 3))
            bump[q, r] = 1e-6
            close(tensor[:, q, r], (h(W + bump) - h(W - bump)) / 2e-6, rtol=1e-7, atol=1e-9)
            assert all(tensor[p, q, r] == 0.0 for p in range(3) if p != q)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_three_steps_by_hand(name):
    (layer,), x, (state,), dh = problem(np.random.default_rng(31), ["rnn"], 3, 1, 2, 4)
    tape = ref.forward("rnn", layer.params, x, state, activation=name)
    grads = ref.backward(tape, dh)
    dW, dU = ref.three_steps_by_hand(name, layer.params["W"], x[:, 0], tape.h[:, 0], dh[:, 0])
    close(grads.params["W"], dW)
    close(grads.params["U"], dU)
