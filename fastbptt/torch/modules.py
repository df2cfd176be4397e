"""Modules with the constructors, parameters and results of torch.nn's RNN, GRU and LSTM."""
from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..bptt.truncation import Truncation
from ..engine.activations import NAMES
from ..errors import check_choice, check_flag, check_positive
from .checks import check_hidden, check_input, check_options, check_sizes, check_truncated
from .operators import call
from .scans import Config, Inputs, Scan


class Recurrent(nn.Module):
    """What the three modules have in common; not a subclass of torch.nn's, whose forward compilers refuse."""

    gates: int
    states: int = 1

    def __init__(self, mode: str, cell: str, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool,
                 dropout: float, bidirectional: bool, proj_size: int, device: Any, dtype: Any, truncation: Truncation | None,
                 clip_state: float | None, peephole: bool = False):
        super().__init__()
        check_options(mode.partition("_")[0], input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size)
        if dropout > 0 and num_layers == 1:
            warnings.warn("dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                          f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}", stacklevel=3)
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, float(dropout), bidirectional
        self.proj_size = proj_size
        self._truncation = check_truncated(truncation, bidirectional)
        self._clip_state = None if clip_state is None else check_positive("clip_state", clip_state)
        self._cell, self._peephole = cell, peephole
        self._all_weights = [self._add_weights(layer, way, device, dtype)
                             for layer in range(num_layers) for way in ("", "_reverse")[:1 + bool(bidirectional)]]
        self._scans = self._make_scans()
        self.reset_parameters()

    def _add_weights(self, layer: int, way: str, device: Any, dtype: Any) -> list[str]:
        """Parameters of one direction of a layer; their names."""
        H, rows = self.hidden_size, self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, self._inputs_of(layer)), "weight_hh": (rows, H)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self._peephole:
            shapes["weight_peephole"] = (3, H)
        names = {f"{name}_l{layer}{way}": shape for name, shape in shapes.items()}
        for name, shape in names.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        return list(names)

    def _inputs_of(self, layer: int) -> int:
        return self.input_size if layer == 0 else self.hidden_size * (1 + bool(self.bidirectional))

    @property
    def truncation(self) -> Truncation | None:
        """As it was given."""
        return self._truncation

    @property
    def clip_state(self) -> float | None:
        """As it was given."""
        return self._clip_state

    @property
    def _joint(self) -> bool:
        """Whether all layers are one scan: a truncation cuts their states at the same steps."""
        return self._truncation is not None and self.num_layers > 1

    def _make_scans(self) -> list[Scan]:
        """One for each direction of each layer, or one for all layers."""
        horizon, stride = (0, 0) if self.truncation is None else (self.truncation.horizon, self.truncation.stride)
        layers = self.num_layers if self._joint else 1
        dropout = self.dropout if self._joint else 0.0
        return [Scan(Config(self._cell, reverse, layers, dropout, horizon, stride, self.clip_state or 0.0),
                     self._inputs_of(layer), self.hidden_size)
                for layer in range(self.num_layers // layers) for reverse in (False, True)[:1 + bool(self.bidirectional)]]

    def reset_parameters(self) -> None:
        """Uniform numbers within 1/√hidden_size, from PyTorch's generator, in the order of torch.nn's."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            nn.init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: there for scripts that call it, as torch.nn's do on a GPU."""

    @property
    def all_weights(self) -> list[list[Any]]:
        """Parameters of every layer and direction."""
        return self._weights()

    def _weights(self) -> list[list[Any]]:
        own = self._parameters      # faster than getattr, which also finds what a parametrisation puts in their places
        return [[own[name] if name in own else getattr(self, name) for name in names] for names in self._all_weights]

    def extra_repr(self) -> str:
        """Sizes, and the options that are not the default."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        parts += [f"num_layers={self.num_layers}"] if self.num_layers != 1 else []
        parts += [f"bias={self.bias}"] if self.bias is not True else []
        parts += [f"batch_first={self.batch_first}"] if self.batch_first is not False else []
        parts += [f"dropout={self.dropout}"] if self.dropout != 0 else []
        parts += [f"bidirectional={self.bidirectional}"] if self.bidirectional is not False else []
        return ", ".join([*parts, *self._own_repr()])

    def _own_repr(self) -> list[str]:
        """Options that torch.nn's do not have."""
        given = {"truncation": self.truncation, "clip_state": self.clip_state}
        return [f"{name}={value}" for name, value in given.items() if value is not None]

    # ------------------------------------------------------------------------------------------ forward

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As torch.nn's: (output, h_n), of an LSTM (output, (h_n, c_n)), from a tensor or a PackedSequence.

        input is (T, B, I), with batch_first (B, T, I), or one sequence (T, I); hx is (L·D, B, H), for one sequence (L·D, H), of
        an LSTM a pair of these, for L layers in D directions; 0 where it is not given.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        kind, weights, x = self.mode.partition("_")[0], self._weights(), input
        check_input(kind, x, weights[0][0], self.input_size, (2, 3))
        hidden = () if hx is None else check_hidden(kind, x, hx, self.states, x.dim())
        alone = x.dim() == 2
        if alone:
            x, hidden = x.unsqueeze(1), tuple([h.unsqueeze(1) for h in hidden])
        elif self.batch_first:
            x = x.transpose(0, 1)
        check_sizes(x.shape[0], hidden, (len(weights), x.shape[1], self.hidden_size))
        output, finals = self._run(x, hidden, weights, None)
        if alone:
            output, finals = output.squeeze(1), [s.squeeze(1) for s in finals]
        elif self.batch_first:
            output = output.transpose(0, 1)
        return output, finals[0] if self.states == 1 else tuple(finals)

    def _forward_packed(self, packed: PackedSequence, hx: Any) -> Any:
        x, batch_sizes, order, back = packed
        kind, weights = self.mode.partition("_")[0], self._weights()
        check_input(kind, x, weights[0][0], self.input_size, (2,))
        B = int(batch_sizes[0]) if order is None else order.shape[0]
        size = len(weights), B, self.hidden_size
        if hx is None:
            hidden: tuple[Tensor, ...] = (x.new_zeros(size),) * self.states
        else:
            hidden = check_hidden(kind, x, hx, self.states, 3)
            check_sizes(batch_sizes.shape[0], hidden, size)
            hidden = hidden if order is None else tuple([h.index_select(1, order) for h in hidden])
        output, finals = self._run(x, hidden, weights, batch_sizes)
        finals = finals if back is None else [s.index_select(1, back) for s in finals]
        return PackedSequence(output, batch_sizes, order, back), finals[0] if self.states == 1 else tuple(finals)

    def _run(self, x: Tensor, hidden: tuple[Tensor, ...], weights: list[list[Any]],
             batch_sizes: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Layer after layer, with PyTorch's dropout in between; the final states of all."""
        if self._joint:
            return self._run_joint(x, hidden, weights, batch_sizes)
        if len(self._scans) == 1:
            output, *last = call(self._scans[0], self._inputs(x.contiguous(), hidden, weights[0], batch_sizes))
            return output, last[:self.states]
        ways, finals = len(self._scans) // self.num_layers, []
        for layer in range(self.num_layers):
            outputs, x = [], x.contiguous()
            for k in range(layer * ways, (layer + 1) * ways):
                states = [h[k:k + 1] for h in hidden]
                output, *last = call(self._scans[k], self._inputs(x, states, weights[k], batch_sizes))
                outputs.append(output)
                finals.append(last)
            x = outputs[0] if ways == 1 else torch.cat(outputs, -1)
            if self.dropout and self.training and layer < self.num_layers - 1:
                x = nn.functional.dropout(x, self.dropout)
        return x, [torch.cat([last[s] for last in finals]) for s in range(self.states)]

    def _inputs(self, x: Tensor, states: Sequence[Tensor], weights: list[Any], batch_sizes: Tensor | None,
                upper: Tensor | None = None, seed: Tensor | None = None) -> Inputs:
        w_ih, w_hh, *rest = weights
        b_ih, b_hh = rest[:2] if self.bias else (None, None)
        h0 = states[0].contiguous() if states else None
        c0 = states[1].contiguous() if len(states) > 1 else None
        return Inputs(x, h0, c0, w_ih, w_hh, b_ih, b_hh, rest[-1] if self._peephole else None, upper, batch_sizes, seed)

    def _run_joint(self, x: Tensor, hidden: tuple[Tensor, ...], weights: list[list[Any]],
                   batch_sizes: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """All layers as one scan, their weights one below the other."""
        (w_ih, *first), *above = weights
        joined = [w_ih, *[torch.cat([own, *[layer[i + 1] for layer in above]]) for i, own in enumerate(first)]]
        upper = torch.cat([layer[0] for layer in above])
        seed = torch.randint(2**62, (1,)) if self.dropout and self.training else None
        if self._scans[0].config.dropout != self.dropout:      # set since
            self._scans = self._make_scans()
        output, *finals = call(self._scans[0], self._inputs(x.contiguous(), hidden, joined, batch_sizes, upper, seed))
        return output, finals[:self.states]


class RNN(Recurrent):
    """`torch.nn.RNN` on the kernels of this package.

    Parameters
    ----------
    input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional, device, dtype
        As torch.nn.RNN has them. `dtype` is float32 or float64, `proj_size` is refused.
    activation : str, optional
        An activation of `fastbptt.RNN` in place of `nonlinearity`: "tanh", "sigmoid", "relu", "leaky_relu", "identity".
    truncation : Truncation, optional
        Truncated backpropagation through time; not with `bidirectional`.
    clip_state : float, optional
        As in `fastbptt.backward`: the largest norm of the error that a step hands to the one before.

    Examples
    --------
    >>> import torch
    >>> from fastbptt.torch import RNN
    >>> output, h_n = RNN(3, 4, num_layers=2)(torch.zeros(5, 2, 3))
    >>> output.shape, h_n.shape
    (torch.Size([5, 2, 4]), torch.Size([2, 2, 4]))
    """

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
                 device: Any = None, dtype: Any = None, *, activation: str | None = None, truncation: Truncation | None = None,
                 clip_state: float | None = None):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu', or pass one of "
                             f"{', '.join(map(repr, NAMES))} as activation.")
        name = nonlinearity if activation is None else check_choice("activation", activation, NAMES)
        super().__init__(f"RNN_{name.upper()}", f"RNN {name}", input_size, hidden_size, num_layers, bias, batch_first, dropout,
                         bidirectional, proj_size, device, dtype, truncation, clip_state)
        self.nonlinearity, self.activation = nonlinearity, activation

    def _own_repr(self) -> list[str]:
        return [*([] if self.activation is None else [f"activation={self.activation!r}"]), *super()._own_repr()]


class GRU(Recurrent):
    """`torch.nn.GRU` on the kernels of this package.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        As torch.nn.GRU has them. `dtype` is float32 or float64, `proj_size` is refused.
    reset : {"after", "before"}
        As in `fastbptt.GRU`: where the reset gate acts. torch.nn.GRU has it after the recurrent product.
    truncation, clip_state
        As in `RNN`.

    Examples
    --------
    >>> import torch
    >>> from fastbptt.torch import GRU
    >>> output, h_n = GRU(3, 4, bidirectional=True)(torch.zeros(5, 2, 3))
    >>> output.shape, h_n.shape
    (torch.Size([5, 2, 8]), torch.Size([2, 2, 4]))
    """

    gates = 3

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None, *,
                 reset: str = "after", truncation: Truncation | None = None, clip_state: float | None = None):
        where = check_choice("reset", reset, ("after", "before"))
        super().__init__("GRU", f"GRU {where}", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                         proj_size, device, dtype, truncation, clip_state)
        self.reset = where

    def _own_repr(self) -> list[str]:
        return [*([] if self.reset == "after" else [f"reset={self.reset!r}"]), *super()._own_repr()]


class LSTM(Recurrent):
    """`torch.nn.LSTM` on the kernels of this package.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        As torch.nn.LSTM has them. `dtype` is float32 or float64, `proj_size` is refused.
    peephole : bool
        As in `fastbptt.LSTM`: connections from the cell state to the gates i, f and o, weight_peephole_l[k] (3, H).
    truncation, clip_state
        As in `RNN`.

    Examples
    --------
    >>> import torch
    >>> from fastbptt.torch import LSTM
    >>> output, (h_n, c_n) = LSTM(3, 4, batch_first=True)(torch.zeros(2, 5, 3))
    >>> output.shape, h_n.shape, c_n.shape
    (torch.Size([2, 5, 4]), torch.Size([1, 2, 4]), torch.Size([1, 2, 4]))
    """

    gates = 4
    states = 2

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None, *,
                 peephole: bool = False, truncation: Truncation | None = None, clip_state: float | None = None):
        own = check_flag("peephole", peephole)
        super().__init__("LSTM", "LSTM peephole" if own else "LSTM", input_size, hidden_size, num_layers, bias, batch_first,
                         dropout, bidirectional, proj_size, device, dtype, truncation, clip_state, own)
        self.peephole = own

    def _own_repr(self) -> list[str]:
        return [*(["peephole=True"] if self.peephole else []), *super()._own_repr()]
