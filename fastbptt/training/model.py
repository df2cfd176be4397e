"""A recurrent cell with a readout and a loss: many-to-many and many-to-one."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..bptt.api import backward, forward
from ..bptt.tape import Tape
from ..bptt.truncation import Truncation
from ..cells.init import glorot
from ..errors import (
    check_choice,
    check_output_direction,
    check_output_params,
    check_size,
    check_targets,
    check_weights,
    check_weights_fit,
)
from ..tree import first_array, tree_map
from . import losses
from .quiet import quiet
from .readout import ReadoutParams, readout_backward, readout_forward

MODES = ("many_to_many", "many_to_one")


class ModelParams(NamedTuple):
    """Parameters of a SequenceModel, and their gradients."""

    cell: Any
    readout: ReadoutParams


class _Counted(NamedTuple):
    """The steps whose loss counts, in the order of time: their indices in (T, B), factors and targets."""

    t: Array
    b: Array
    weight: Array
    y: Array


@dataclass(frozen=True)
class SequenceModel:
    """h = cell(x), z = V h + c, L = Σ loss(z, y): at every step, or at the last valid one of each sequence.

    Parameters
    ----------
    cell : RNN, GRU, LSTM or Stack
    output_size : int
        O.
    loss : {"softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"}
        −log ŷ_target; −y log ŷ − (1−y) log(1−ŷ) summed over outputs; ½ (y − ŷ)² summed over outputs.
    mode : {"many_to_many", "many_to_one"}

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> model = fb.SequenceModel(fb.RNN(4, 8), output_size=4)
    >>> params = model.init(seed=0)
    >>> ids = np.array([[0], [1], [1], [2], [3]])
    >>> loss, grads = model.loss_and_grad(params, ids[:-1], ids[1:])
    >>> grads.readout.V.shape
    (4, 8)
    """

    cell: Any
    output_size: int
    loss_name: str = "softmax_cross_entropy"
    mode: str = "many_to_many"

    def __init__(self, cell: Any, output_size: int, loss: str = "softmax_cross_entropy", mode: str = "many_to_many"):
        object.__setattr__(self, "cell", cell)
        object.__setattr__(self, "output_size", check_size("output_size", output_size))
        object.__setattr__(self, "loss_name", check_choice("loss", loss, losses.NAMES))
        object.__setattr__(self, "mode", check_choice("mode", mode, MODES))

    def init(self, seed: int = 0, dtype: Any = np.float32, **options: Any) -> ModelParams:
        """Initial parameters: the cell's (`options` go to its init), V by Glorot, c = 0."""
        cell = self.cell.init(seed=seed, dtype=dtype, **options)
        rng, kind = np.random.default_rng([seed, 1]), first_array(cell).dtype
        check_weights_fit(self, {"V": (self.output_size, self.cell.hidden_size)}, kind)
        V = glorot(rng, self.output_size, self.cell.hidden_size)
        return ModelParams(cell, ReadoutParams(V.astype(kind), np.zeros(self.output_size, kind)))

    def project(self, params: ModelParams) -> ModelParams:
        """The nearest parameters that the masks and signs of the cell allow."""
        return params._replace(cell=self.cell.project(params.cell))

    def loss_and_grad(self, params: ModelParams, x: Any, y: Any, lengths: Any = None, truncation: Truncation | None = None,
                      state: Any = None, weights: Any = None, reduction: str = "sum", memory_budget: int | str | None = None, *,
                      seed: int | None = None) -> tuple[float, ModelParams]:
        """L and its gradient with respect to every parameter.

        Parameters
        ----------
        params : ModelParams
        x, lengths, state, truncation
            As for `forward` and `backward`. The readout's gradients are never truncated.
        y : ids (T, B) or (B,) for softmax, else real (T, B, O) or (B, O)
        weights : (T, B), optional
            Factor of the loss of every step; a step of weight 0 is not read. Many-to-one uses that of the last valid step.
        reduction : {"sum", "mean"}
            "mean" divides by the number of valid steps of weight ≠ 0.
        memory_budget : int or str, optional
            As for `forward`; the loss is computed segment by segment.
        seed : int, optional
            Of the dropout of a Stack, another one for every batch; `loss` and `predict` drop nothing.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type, shape, dtype or range; the message names it.
        """
        return self.loss_grad_state(params, x, y, lengths, truncation, state, weights, reduction, memory_budget, seed=seed)[:2]

    def loss_grad_state(self, params: ModelParams, x: Any, y: Any, lengths: Any = None, truncation: Truncation | None = None,
                        state: Any = None, weights: Any = None, reduction: str = "sum", memory_budget: int | str | None = None,
                        *, seed: int | None = None) -> tuple[float, ModelParams, Any]:
        """As `loss_and_grad`, and the State after the last valid step: what a stream carries on to its next window."""
        return self.loss_grad_state_count(params, x, y, lengths, truncation, state, weights, reduction, memory_budget,
                                          seed=seed)[:3]

    @quiet
    def loss_grad_state_count(self, params: ModelParams, x: Any, y: Any, lengths: Any = None,
                              truncation: Truncation | None = None, state: Any = None, weights: Any = None,
                              reduction: str = "sum", memory_budget: int | str | None = None, *,
                              seed: int | None = None) -> tuple[float, ModelParams, Any, int]:
        """As `loss_grad_state`, and the number of steps whose loss counts, by which a mean has been divided."""
        params = check_output_params(self, params)
        tape, counted = self._counted(params, x, y, lengths, state, weights, reduction, seed, memory_budget)
        count = len(counted.t)
        if memory_budget is None:
            loss, readout, dh = self._errors(params.readout, counted, 0, tape.h)
            return loss, ModelParams(backward(self.cell, params.cell, tape, dh, truncation).params, readout), tape.final, count
        total, sums = 0.0, tree_map(np.zeros_like, params.readout)

        def segment(start: int, stop: int, h: Array) -> Array:
            nonlocal total, sums
            loss, readout, dh = self._errors(params.readout, counted, start, h)
            total, sums = total + loss, tree_map(np.add, sums, readout)
            return dh

        grads = backward(self.cell, params.cell, tape, segment, truncation)
        return total, ModelParams(grads.params, sums), tape.final, count

    @quiet
    def errors(self, params: ModelParams, x: Any, y: Any, lengths: Any = None, state: Any = None, weights: Any = None,
               reduction: str = "sum") -> tuple[Tape, float, Array]:
        """The tape, L, and dh (T, B, H) = ∂L/∂h_t: what `backward` and the functions of gradient flow take.

        Arguments as for `loss_and_grad`.

        Examples
        --------
        >>> import fastbptt as fb
        >>> model = fb.SequenceModel(fb.RNN(3, 4), output_size=3)
        >>> params = model.init(seed=0)
        >>> tape, loss, dh = model.errors(params, [[0], [1]], [[1], [2]])
        >>> fb.gradient_flow(model.cell, params.cell, tape, dh).steps
        2
        """
        params = check_output_params(self, params)
        tape, counted = self._counted(params, x, y, lengths, state, weights, reduction)
        loss, _, dh = self._errors(params.readout, counted, 0, tape.h)
        return tape, loss, dh

    def _errors(self, readout: ReadoutParams, counted: _Counted, start: int, h: Array) -> tuple[float, ReadoutParams, Array]:
        """Loss, gradients of the readout, and ∂L/∂h, of the steps after `start` whose states h are."""
        first, last = np.searchsorted(counted.t, (start, start + len(h)))
        t, b, weight, y = (array[first:last] for array in counted)
        rows = h[t - start, b]
        terms, dz = losses.point_losses(self.loss_name, readout_forward(readout, rows), y)
        factor = weight.astype(dz.dtype)
        grads, drows = readout_backward(readout, rows, dz * factor[:, None])
        dh = np.zeros(h.shape, h.dtype)
        dh[t - start, b] = drows
        return float((terms * factor).sum(dtype=np.float64)), grads, dh

    @quiet
    def gauss_newton(self, params: ModelParams, x: Any, y: Any, v: ModelParams, lengths: Any = None, state: Any = None,
                     weights: Any = None, reduction: str = "sum", *, seed: int | None = None) -> ModelParams:
        """The Gauss–Newton matrix of L times a direction: Jᵀ H J v, J = ∂z/∂θ, H the Hessian of the loss in the logits z.

        It is the Hessian of L without the curvature of the network, symmetric and positive semidefinite: one forward pass, one in
        forward mode, one backward pass.

        Parameters
        ----------
        params, x, y, lengths, state, weights, reduction, seed
            As for `loss_and_grad`.
        v : ModelParams
            The direction, in the shapes of the parameters.

        Returns
        -------
        ModelParams

        Raises
        ------
        TypeError, ValueError
            As `loss_and_grad`, and if v has the wrong type, shape or dtype.

        Examples
        --------
        >>> import numpy as np, fastbptt as fb
        >>> model = fb.SequenceModel(fb.RNN(4, 8), output_size=4)
        >>> params, v = model.init(seed=0), model.init(seed=1)
        >>> ids = np.array([[0], [1], [1], [2], [3]])
        >>> model.gauss_newton(params, ids[:-1], ids[1:], v).readout.V.shape
        (4, 8)

        References
        ----------
        N. N. Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent", Neural Computation
        14(7), 2002.
        """
        from ..tangent.jvp import jvp  # loaded by who asks for it

        params = check_output_params(self, params)
        v = check_output_direction(self, params, v)
        tape, counted = self._counted(params, x, y, lengths, state, weights, reduction, seed)
        at = counted.t, counted.b
        rows, drows = tape.h[at], jvp(self.cell, params.cell, tape, v.cell).h[at]
        dz = readout_forward(params.readout, drows) - params.readout.c + readout_forward(v.readout, rows)
        errors = losses.curvature_product(self.loss_name, readout_forward(params.readout, rows), dz) * counted.weight[:, None]
        readout, dh = readout_backward(params.readout, rows, errors.astype(rows.dtype, copy=False))
        sent = np.zeros(tape.h.shape, rows.dtype)
        sent[at] = dh
        return ModelParams(backward(self.cell, params.cell, tape, sent).params, readout)

    def loss(self, params: ModelParams, x: Any, y: Any, lengths: Any = None, state: Any = None, weights: Any = None,
             reduction: str = "sum") -> float:
        """L alone; arguments as for `loss_and_grad`."""
        return self.loss_and_state(params, x, y, lengths, state, weights, reduction)[0]

    @quiet
    def loss_and_state(self, params: ModelParams, x: Any, y: Any, lengths: Any = None, state: Any = None, weights: Any = None,
                       reduction: str = "sum") -> tuple[float, Any]:
        """L and the State after the last valid step."""
        params = check_output_params(self, params)
        tape, counted = self._counted(params, x, y, lengths, state, weights, reduction)
        rows = tape.h[counted.t, counted.b]
        terms, _ = losses.point_losses(self.loss_name, readout_forward(params.readout, rows), counted.y)
        return float((terms * counted.weight).sum(dtype=np.float64)), tape.final

    @quiet
    def predict(self, params: ModelParams, x: Any, lengths: Any = None, state: Any = None) -> Array:
        """ŷ: (T, B, O), or (B, O) for many-to-one; at padded steps the prediction from the held state."""
        params = check_output_params(self, params)
        tape = forward(self.cell, params.cell, x, state, lengths)
        steps = tape.batch.lengths
        h = tape.h if self.mode == "many_to_many" else tape.h[steps - 1, np.arange(steps.size)]
        return losses.predictions(self.loss_name, readout_forward(params.readout, h))

    def _counted(self, params: ModelParams, x: Any, y: Any, lengths: Any, state: Any, weights: Any,
                 reduction: str, seed: int | None = None, memory_budget: int | str | None = None) -> tuple[Tape, _Counted]:
        """Forward, and the steps whose loss counts."""
        check_choice("reduction", reduction, ("sum", "mean"))
        tape = forward(self.cell, params.cell, x, state, lengths, seed=seed, memory_budget=memory_budget)
        T, B = tape.batch.x.shape[:2]
        steps, dtype = tape.batch.lengths, params.readout.V.dtype
        valid = np.arange(T)[:, None] < steps
        if self.mode == "many_to_one":
            valid = np.arange(T)[:, None] == steps - 1
        factor = np.ones((T, B), dtype) if weights is None else check_weights(weights, T, B, valid, dtype)
        t, b = np.nonzero(valid & (factor != 0))
        place = (t, b) if self.mode == "many_to_many" else (b,)
        targets = check_targets(y, (T, B) if self.mode == "many_to_many" else (B,), place, self.output_size, dtype,
                                self.loss_name == "softmax_cross_entropy")
        scale = 1.0 / max(1, len(t)) if reduction == "mean" else 1.0
        return tape, _Counted(t, b, factor[t, b] * factor.dtype.type(scale), targets)
