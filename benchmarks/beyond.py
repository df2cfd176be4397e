"""Other derivatives beside those of PyTorch: `python -m benchmarks.beyond` prints the figures of docs/beyond-reverse-mode.md.

Each side is checked against the other before it is timed. Times are the shortest of several calls.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import fastbptt as fb
from benchmarks.timing import markdown, shortest

SIZES = ((100, 16, 64, 64), (100, 64, 32, 32))  # T, B, I, H


def milliseconds(*calls: Callable[[], Any]) -> list[float]:
    return [1e3 * seconds for seconds in shortest(calls, 0.5, time.perf_counter)]


def forward_mode(T: int, B: int, I: int, H: int) -> list[str]:  # noqa: E741
    """A forward pass and a Jacobian-vector product."""
    rng = np.random.default_rng(0)
    cell = fb.LSTM(I, H)
    params, dparams = cell.init(seed=0), cell.init(seed=1)
    x, dx = rng.normal(size=(2, T, B, I)).astype(np.float32)
    tape = fb.forward(cell, params, x)
    forward, jvp = milliseconds(lambda: fb.forward(cell, params, x), lambda: fb.jvp(cell, params, tape, dparams, dx, tape.final))
    return [f"jvp, LSTM, {name(T, B, I, H)}", f"{jvp:.2f}", f"{forward:.2f} (forward)", f"{forward / jvp:.2f}"]


def name(T: int, B: int, I: int, H: int) -> str:  # noqa: E741
    return f"T{T}-B{B}-I{I}-H{H}"


def per_sequence(T: int, B: int, I: int, H: int) -> list[list[str]]:  # noqa: E741
    """Gradients of L_b = ½ Σ h² for every sequence, the forward pass included."""
    import torch
    from torch.func import functional_call, grad, vmap

    module, x = torch.nn.LSTM(I, H), torch.randn(T, B, I, generator=torch.Generator().manual_seed(0))
    weights = {key: value.detach() for key, value in module.named_parameters()}
    cell, inputs = fb.LSTM(I, H), x.numpy()
    params = fb.interop.torch.from_state_dict(cell, weights)

    def ours() -> Any:
        tape = fb.forward(cell, params, inputs)
        return fb.per_sequence_gradients(cell, params, tape, tape.h)

    def one() -> Any:
        tape = fb.forward(cell, params, inputs)
        return fb.backward(cell, params, tape, tape.h)

    def loss(weights: Any, x: Any) -> Any:
        return functional_call(module, weights, (x[:, None],))[0].square().sum() / 2

    vectorised = vmap(grad(loss), in_dims=(None, 1))

    def loop() -> Any:
        return [torch.autograd.grad(module(x[:, b : b + 1])[0].square().sum() / 2, list(module.parameters())) for b in range(B)]

    np.testing.assert_allclose(ours().W, vectorised(weights, x)["weight_hh_l0"].numpy(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ours().W[0], loop()[0][1].numpy(), rtol=1e-3, atol=1e-3)
    mine, whole, by_vmap, by_loop = milliseconds(ours, one, lambda: vectorised(weights, x), loop)
    case = name(T, B, I, H)
    return [
        [f"per sequence, LSTM, {case}", f"{mine:.1f}", f"{by_vmap:.0f} (vmap of grad)", f"{by_vmap / mine:.0f}"],
        [f"per sequence, LSTM, {case}", f"{mine:.1f}", f"{by_loop:.0f} (loop over nn.LSTM)", f"{by_loop / mine:.0f}"],
        [f"per sequence, LSTM, {case}", f"{mine:.1f}", f"{whole:.1f} (one gradient, ours)", f"{whole / mine:.2f}"],
    ]


SPEED = 1e-12  # of a fixed point, for both searches


def by_adam(W: Any, b: Any, starts: Any, enough: float = 0.99, seconds: float = 60.0) -> float:
    """Seconds until so many starts have reached SPEED by Adam on the mean speed, as published searches do; inf if they do not."""
    import torch

    h = starts.clone().requires_grad_()
    optimizer = torch.optim.Adam([h], lr=0.01)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=100)
    begin, updates = time.perf_counter(), 0
    while time.perf_counter() < begin + seconds:
        optimizer.zero_grad()
        speeds = 0.5 * (torch.tanh(h @ W.T + b) - h).square().sum(dim=1)
        if updates % 100 == 0 and (speeds <= SPEED).double().mean() >= enough:
            return time.perf_counter() - begin
        loss = speeds.mean()
        loss.backward()
        optimizer.step()
        schedule.step(loss.item())
        updates += 1
    return float("inf")


def fixed_points(starts: int = 1000, updates: int = 1500) -> list[str]:
    """The three bits of examples/flip_flop.py: a search from visited states, and around them."""
    import torch

    from examples import flip_flop

    learned, rng = flip_flop.train(updates), np.random.default_rng(1)
    cell, params, states = learned.model.cell, learned.params.cell, learned.states.reshape(-1, flip_flop.HIDDEN)
    chosen = states[rng.choice(len(states), starts)]
    chosen = (chosen + 0.3 * rng.normal(size=chosen.shape)).astype(np.float32)
    x = np.zeros(flip_flop.BITS, np.float32)
    found = fb.fixed_points(cell, params, x, fb.RNNState(chosen), tol=SPEED)
    assert found.counts.sum() >= 0.99 * starts and found.speeds[found.fixed].max() <= SPEED
    (mine,) = milliseconds(lambda: fb.fixed_points(cell, params, x, fb.RNNState(chosen), tol=SPEED))
    adam = 1e3 * by_adam(*(torch.tensor(a, dtype=torch.float64) for a in (params.W, params.b, chosen)))
    case = f"fixed points, {flip_flop.HIDDEN} tanh units, {starts} starts"
    return [case, f"{mine:.0f}", f"{adam:.0f} (Adam)", f"{adam / mine:.0f}"]


def main() -> None:
    warnings.filterwarnings("ignore", message="There is a performance drop")
    rows = [forward_mode(*size) for size in SIZES] + [row for size in SIZES for row in per_sequence(*size)]
    rows.append(fixed_points())
    print(markdown(["", "ms", "beside it, ms", "ratio"], rows))


if __name__ == "__main__":
    sys.exit(main())
