"""Train a network on a task of neurogym, trial by trial: supervised, on what the right action is at every step.

    pip install neurogym torch
    python examples/neurogym_task.py --task DelayMatchSample-v0

An environment makes trials of different lengths: observations (T, I), and the right action at each step, which is 0 (fixate) till
the animal has to answer. A batch is some trials side by side, padded. A trial counts as right if the action at its last step is.

M. Molano-Mazón et al., "NeuroGym: an open resource for developing and sharing neuroscience tasks", PsyArXiv, 2022.
"""
from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

import fastbptt as fb

TESTED = 500


def trials(env: Any, count: int) -> dict[str, Any]:
    """New trials as arguments of `SequenceModel.loss_and_grad`: x (T, B, I), y (T, B) and lengths."""
    observations, actions = [], []
    for _ in range(count):
        env.new_trial()
        observations.append(np.array(env.ob, np.float32))
        actions.append(np.array(env.gt, np.int64))
    x, lengths = fb.pad(observations)
    return {"x": x, "y": fb.pad(actions)[0], "lengths": lengths, "reduction": "mean"}


def correct(model: fb.SequenceModel, params: fb.ModelParams, batch: dict[str, Any]) -> float:
    """Fraction of the trials whose last action is right."""
    last = batch["lengths"] - 1, np.arange(len(batch["lengths"]))
    chosen = model.predict(params, batch["x"], batch["lengths"]).argmax(axis=2)
    return float((chosen[last] == batch["y"][last]).mean())


def batches(env: Any, size: int) -> Iterator[dict[str, Any]]:
    """Trials without end."""
    while True:
        yield trials(env, size)


def train(env: Any, hidden: int = 64, updates: int = 500, size: int = 16, seed: int = 0) -> tuple[float, float]:
    """Fraction of new trials that are right before and after training."""
    model = fb.SequenceModel(fb.GRU(env.observation_space.shape[0], hidden), int(env.action_space.n))
    params = model.init(seed=seed)
    before = correct(model, params, trials(env, TESTED))

    def told(step: Any) -> None:
        if step.number % 100 == 0:
            print(f"{step.number} updates, loss {step.loss:.3f}", flush=True)

    fitted = fb.fit(model, params, batches(env, size), fb.Adam(0.003), clip=1.0, steps=updates, callback=told)
    return before, correct(model, fitted.params, trials(env, TESTED))


def make(task: str, dt: int, seed: int) -> Any:
    """An environment of neurogym, or the advice to install it."""
    try:
        import neurogym
    except ImportError as error:
        raise SystemExit(f"neurogym cannot be imported ({error}); pip install neurogym torch") from None
    env = neurogym.make(task, dt=dt).unwrapped
    env.seed(seed)
    return env


def main(argv: list[str] | None = None) -> tuple[float, float]:
    """Train, print, and return the fractions of right trials before and after."""
    parser = argparse.ArgumentParser(description="a recurrent network learns a task of neurogym")
    parser.add_argument("--task", default="DelayMatchSample-v0", help="of neurogym (default: DelayMatchSample-v0)")
    parser.add_argument("--dt", type=int, default=100, help="milliseconds of a step (default: 100)")
    parser.add_argument("--updates", type=int, default=500, help="of 16 trials each (default: 500)")
    parser.add_argument("--hidden", type=int, default=64, help="units of the GRU (default: 64)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    env = make(arguments.task, arguments.dt, arguments.seed)
    before, after = train(env, arguments.hidden, arguments.updates, seed=arguments.seed)
    print(f"{arguments.task}: {before:.0%} of the trials right before training, {after:.0%} after")
    return before, after


if __name__ == "__main__":
    main()
