"""The operators `fastbptt::scan` and `fastbptt::scan_backward`, and which calls go through them.

Compilers, exporters and autocast see the operators. A plain call runs the same functions as a bare `autograd.Function`: an
operator written in Python costs several times as much, because every argument passes through it three times.
"""
from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad

from .packing import packing_of
from .scans import DIFFERENTIABLE, Config, Inputs, Scan, Tapes, array, like_forward, run_backward, run_forward, scan_of

RESULTS = 3      # output, h_n and c_n
KEPT = len(Tapes._fields)
TENSORS = len(Inputs._fields)
RARE = 4                 # the last of the inputs, left out of a call where it has none of them
NONE_OF_THEM = (None,) * RARE
INPUTS = ("Tensor x, Tensor? h0, Tensor? c0, Tensor w_ih, Tensor w_hh, Tensor? b_ih, Tensor? b_hh, Tensor? peephole, "
          "Tensor? w_upper, Tensor? batch_sizes, Tensor? seed, "
          "str cell, bool reverse, int layers, float dropout, int horizon, int stride, float clip")
SAVED = "Tensor? dout, Tensor? dh_n, Tensor? dc_n, Tensor tape_h, Tensor? tape_c, Tensor? gates"
TWICE = ("fastbptt.torch: expected to be differentiated once, got a second time, which the kernels cannot do; "
         "torch.nn's module of the same name can, and takes the same state_dict")
FORWARD_MODE = ("fastbptt.torch: expected differentiation in reverse mode, got an input with a tangent "
                "(torch.autograd.forward_ad, torch.func.jvp), which the kernels do not carry; "
                "use backward() or torch.autograd.grad")
TRANSFORMS = ("fastbptt.torch: expected a plain call, got one inside a transform of torch.func (grad, vjp, jvp, vmap, jacrev); "
              "use backward() or torch.autograd.grad, and a loop in place of vmap")


def call(scan: Scan, inputs: Inputs) -> Any:
    """output, h_n and c_n of a scan; c_n is None, or empty, where there is no cell state."""
    if (torch.compiler.is_compiling() or inputs.x.is_meta or torch.is_autocast_enabled("cpu")
            or torch._C._len_torch_dispatch_stack()):
        return scan_operator(*inputs, *scan.config)[:RESULTS]
    if torch._C._are_functorch_transforms_active():
        raise NotImplementedError(TRANSFORMS)
    return Eager.apply(scan, *inputs[:-RARE] if inputs[-RARE:] == NONE_OF_THEM else inputs)


class Eager(torch.autograd.Function):
    """A scan outside of compilers and transforms."""

    @staticmethod
    def forward(ctx: Any, scan: Scan, *inputs: Any) -> Any:
        """output, h_n and c_n."""
        given = Inputs(*inputs, *NONE_OF_THEM[:TENSORS - len(inputs)])
        results, tapes, checked = run_forward(scan, given)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tapes, *inputs)
        ctx.scan, ctx.checked = scan, checked
        return results

    @staticmethod
    def backward(ctx: Any, *errors: Any) -> Any:
        """Gradients; under create_graph through the operator, which says what cannot be done with them."""
        saved = ctx.saved_tensors
        given = Inputs(*saved[KEPT:], *NONE_OF_THEM[:TENSORS + KEPT - len(saved)])
        if torch.is_grad_enabled():
            grads = scan_backward_operator(*errors, *saved[:KEPT], *given, *ctx.scan.config)
            grads = [None if t is None else g for g, t in zip(grads, given, strict=False)]
        else:
            grads = run_backward(ctx.scan, errors, Tapes(*saved[:KEPT]), given, ctx.checked)
        return (None, *grads, None, None)[:len(saved) - KEPT + 1]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Refused."""
        raise NotImplementedError(FORWARD_MODE)


# ---------------------------------------------------------------------------------------------- operators


def _scan_of(args: tuple[Any, ...]) -> tuple[Scan, Inputs]:
    given = Inputs(*args[:TENSORS])
    return scan_of(Config(*args[TENSORS:]), given.w_ih.shape[1], given.w_hh.shape[1]), given


def _filled(tensors: Any) -> tuple[torch.Tensor, ...]:
    """Operators return tensors only: an empty one for None."""
    return tuple([torch.empty(0) if tensor is None else tensor for tensor in tensors])


def _forward(*args: Any) -> tuple[torch.Tensor, ...]:
    scan, given = _scan_of(args)
    if forward_ad._current_level >= 0 and any(t is not None and forward_ad.unpack_dual(t).tangent is not None for t in given):
        raise NotImplementedError(FORWARD_MODE)
    results, tapes, _ = run_forward(scan, given)
    if given.batch_sizes is not None and tapes.gates is not None:      # equal calls, equal results, at padded steps too
        tapes.gates[..., torch.from_numpy(packing_of(array(given.batch_sizes)).padding), :] = 0
    return _filled((*results, *tapes))


def _fake_forward(*args: Any) -> tuple[torch.Tensor, ...]:
    return _filled(like_forward(scan_of(Config(*args[TENSORS:]), 1, 1), Inputs(*args[:TENSORS]), torch.empty))     # of any size


def _backward(*args: Any) -> tuple[torch.Tensor, ...]:
    first = RESULTS + KEPT
    scan, given = _scan_of(args[first:])
    tapes = Tapes(*[t if t is not None and t.numel() else None for t in args[RESULTS:first]])
    return _filled(run_backward(scan, args[:RESULTS], tapes, given))


def _fake_backward(*args: Any) -> tuple[torch.Tensor, ...]:
    given = args[RESULTS + KEPT:][:DIFFERENTIABLE]
    return _filled([None if t is None else torch.empty_like(t, memory_format=torch.contiguous_format) for t in given])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[RESULTS:])
    ctx.save_for_backward(*inputs[:TENSORS], *output[RESULTS:])
    ctx.config = inputs[TENSORS:]


def _gradients(saved: tuple[Any, ...], config: tuple[Any, ...], errors: tuple[Any, ...]) -> tuple[Any, ...]:
    """Of all arguments of a scan."""
    grads = scan_backward_operator(*errors[:RESULTS], *saved[TENSORS:], *saved[:TENSORS], *config)
    wanted = [None if t is None else g for g, t in zip(grads, saved, strict=False)]
    return (*wanted, *[None] * (TENSORS - DIFFERENTIABLE + len(config)))


def _refuse_twice(ctx: Any, *errors: Any) -> None:
    raise NotImplementedError(TWICE)


def _define(name: str, function: Any, arguments: str, results: int) -> Any:
    returned = ", ".join(["Tensor"] * results)
    return torch.library.custom_op(f"fastbptt::{name}", function, mutates_args=(), device_types="cpu",
                                   schema=f"({arguments}) -> ({returned})")


scan_operator = _define("scan", _forward, INPUTS, RESULTS + KEPT)
scan_operator.register_fake(_fake_forward)
scan_operator.register_autograd(lambda ctx, *errors: _gradients(ctx.saved_tensors, ctx.config, errors), setup_context=_setup)
scan_operator.register_autocast("cpu", torch.float32)

scan_backward_operator = _define("scan_backward", _backward, f"{SAVED}, {INPUTS}", DIFFERENTIABLE)
scan_backward_operator.register_fake(_fake_backward)
scan_backward_operator.register_autograd(_refuse_twice)
scan_backward_operator.register_autocast("cpu", torch.float32)
