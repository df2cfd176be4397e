"""fastbptt.torch beside the NumPy calls and torch.nn: what a call costs more, and the cases of the benchmark.

    python benchmarks/torch_modules.py overhead              # T = 100, B = 1, H = 32, beside PyTorch's own floors
    python benchmarks/torch_modules.py cases [--classes S M L] [--cells rnn gru lstm] [--seconds 1]
    python benchmarks/torch_modules.py threads               # PyTorch's threads and ours in one process
"""
from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import fastbptt.torch as modules
from fastbptt.bench.cases import CELLS, Case, select
from fastbptt.bench.modules_peer import ModulesPeer
from fastbptt.bench.peers import OursSide, TorchPeer, assert_same_gradients

OURS, THEIRS, MODULES = 0, 1, 2


@torch.library.custom_op("fastbptt_floor::identity", mutates_args=())
def identity(x: torch.Tensor) -> torch.Tensor:
    """A copy: the least that an operator written in Python can do."""
    return x.clone()


@torch.library.custom_op("fastbptt_floor::identities", mutates_args=())
def identities(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor,
               d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same for as many tensors as a module has."""
    return x.clone(), a.clone(), b.clone(), c.clone(), d.clone()


for operator in (identity, identities):
    operator.register_autograd(lambda ctx, *grads, op=operator: op(*grads), setup_context=lambda ctx, inputs, output: None)


def interleaved(calls: dict[str, Callable[[], Any]], rounds: int, seconds: float = 0.02) -> dict[str, float]:
    """Median seconds of a call of each, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    numbers = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        numbers[name] = max(1, int(seconds / (time.perf_counter() - start)))
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            start = time.perf_counter()
            for _ in range(numbers[name]):
                call()
            taken[name].append((time.perf_counter() - start) / numbers[name])
    return {name: statistics.median(values) for name, values in taken.items()}


def overhead() -> None:
    """Forward and backward of one sequence, in microseconds."""
    x, error = torch.randn(100, 1, 32, requires_grad=True), torch.randn(100, 1, 32)
    for cell in CELLS:
        case = Case(cell, 100, 1, 32, 32, "float32", "S")
        arrays = case.arrays()
        sides = OursSide(), TorchPeer(), ModulesPeer()
        for side in sides:
            side.setup(case, arrays)
        assert_same_gradients(case, arrays, sides)
        module = getattr(modules, cell.upper())(32, 32)
        weights = list(module.parameters())

        def by_module(module: Any = module, weights: list[Any] = weights) -> None:
            for leaf in (x, *weights):
                leaf.grad = None
            module(x)[0].backward(error)

        def by_identity() -> None:
            x.grad = None
            identity(x).backward(error)

        def by_identities(weights: list[Any] = weights) -> None:
            for leaf in (x, *weights):
                leaf.grad = None
            results = identities(x, *weights)
            torch.autograd.backward(results, [r.detach() for r in results])

        found = interleaved({"numpy": sides[OURS].run, "nn": sides[THEIRS].run, "module": by_module, "identity": by_identity,
                             "identities": by_identities}, 25)
        us = {name: 1e6 * seconds for name, seconds in found.items()}
        print(f"{cell}: fb.forward + fb.backward {us['numpy']:.0f} us, fastbptt.torch {us['module']:.0f} us, "
              f"{us['module'] - us['numpy']:.0f} us more; torch.nn {us['nn']:.0f} us; an identity operator of one tensor "
              f"{us['identity']:.0f} us, of five {us['identities']:.0f} us")


def cases(options: argparse.Namespace) -> None:
    """A row for every case."""
    print("| case | fastbptt ms | fastbptt.torch ms | torch.nn ms | share of the plain ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for case in select(options.cells, ("float32",), options.classes):
        arrays = case.arrays()
        sides = OursSide(), TorchPeer(), ModulesPeer()
        for side in sides:
            side.setup(case, arrays)
        assert_same_gradients(case, arrays, sides)
        rounds = max(3, int(options.seconds / 0.06))
        ours, theirs, own = interleaved({side.name: side.run for side in sides}, min(rounds, 15)).values()
        print(f"| {case.name} | {1e3 * ours:.3g} | {1e3 * own:.3g} | {1e3 * theirs:.3g} | {ours / own:.2f} |", flush=True)


def threads() -> None:
    """A module, a layer of PyTorch's, and both in turn, in milliseconds."""
    for n in (torch.get_num_threads(), 1):
        torch.set_num_threads(n)
        module, linear, x = modules.LSTM(128, 128), torch.nn.Linear(128, 1024), torch.randn(100, 32, 128)
        inner, error = torch.randn(100, 32, 128, requires_grad=True), torch.randn(100, 32, 128)

        def by_module(module: Any = module, x: Any = x, error: Any = error) -> None:
            module.zero_grad()
            module(x)[0].backward(error)

        def by_linear(linear: Any = linear, inner: Any = inner) -> None:
            linear(inner).square().mean().backward()

        def by_both(first: Any = by_module, second: Any = by_linear) -> None:
            first()
            second()
        found = interleaved({"module": by_module, "linear": by_linear, "both": by_both}, 15)
        print(f"torch.set_num_threads({n}): " + ", ".join(f"{name} {1e3 * s:.2f} ms" for name, s in found.items()))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["overhead", "cases", "threads"])
    parser.add_argument("--classes", nargs="+", default=["S", "M", "L"])
    parser.add_argument("--cells", nargs="+", default=list(CELLS))
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    if options.what == "cases":
        cases(options)
    else:
        {"overhead": overhead, "threads": threads}[options.what]()


if __name__ == "__main__":
    main()
