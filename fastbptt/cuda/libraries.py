"""Whose arrays these are: what is needed of CuPy, PyTorch, Numba and, in the simulator, NumPy, under one name each.

Products outside the recurrence are the library's own. Numba has none: its arrays are computed on as CuPy's or PyTorch's,
without a copy.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from .target import SIMULATED, cuda, fault


class TorchNames:
    """The functions of PyTorch under NumPy's names, on one device."""

    def __init__(self, torch: Any, device: Any):
        self.torch, self.device = torch, device
        self.where, self.roll, self.searchsorted = torch.where, torch.roll, torch.searchsorted

    def empty(self, shape: Any, dtype: str) -> Any:
        """A new tensor."""
        return self.torch.empty(shape, dtype=getattr(self.torch, dtype), device=self.device)

    def zeros(self, shape: Any, dtype: str) -> Any:
        """A new tensor of zeros."""
        return self.torch.zeros(shape, dtype=getattr(self.torch, dtype), device=self.device)

    def asarray(self, array: Any) -> Any:
        """A NumPy array, copied to the device."""
        return self.torch.as_tensor(array, device=self.device)

    def ascontiguousarray(self, array: Any) -> Any:
        """Itself, or a copy in C order."""
        return array.contiguous()

    def concatenate(self, arrays: Any, axis: int) -> Any:
        """Side by side."""
        return self.torch.cat(arrays, dim=axis)

    def argsort(self, array: Any, kind: str) -> Any:
        """Equal numbers in their order."""
        return self.torch.argsort(array, stable=kind == "stable")


class Library:
    """The library of the arrays of a call, and the device they are on."""

    def __init__(self, xp: Any, own: Callable[[Any], Any], give: Callable[[Any], Any], place: Any, index: int):
        self.xp = xp
        self.own = own
        """An array as a caller passes it → one that `xp` computes on, without a copy."""
        self.give = give
        """The inverse."""
        self._place, self._index = place, index

    def load(self, array: Any) -> Any:
        """An array as a caller passes it, in C order."""
        return self.xp.ascontiguousarray(self.own(array))

    @contextmanager
    def active(self) -> Iterator[None]:
        """The device of the arrays is the current one."""
        if SIMULATED:
            yield
            return
        with self._place(), cuda.gpus[self._index]:
            yield

    def stream(self) -> Any:
        """The stream on which the library works now: kernels follow there, and nothing waits."""
        if SIMULATED:
            return 0
        if isinstance(self.xp, TorchNames):
            handle = self.xp.torch.cuda.current_stream().cuda_stream
        else:
            handle = self.xp.cuda.get_current_stream().ptr
        return cuda.external_stream(handle) if handle else cuda.default_stream()

    def launch(self, kernel: Any, blocks: int, threads: int, *arguments: Any) -> None:
        """Start a kernel; arrays are passed flat."""
        flat = [a if isinstance(a, int | bool) else self.flat(a) for a in arguments]
        kernel[blocks, threads, self.stream()](*flat)

    @staticmethod
    def flat(array: Any) -> Any:
        """A contiguous array as kernels take it."""
        flat = array.reshape(-1)
        return flat if SIMULATED else cuda.as_cuda_array(flat, sync=False)


def library_of(x: Any) -> Library:
    """The library of an array on a GPU.

    Raises
    ------
    RuntimeError
        If kernels cannot run here; the message says why, and what to do.
    ImportError
        If x is Numba's, and there is no library whose products could be used.
    """
    if reason := fault():
        raise RuntimeError(reason)
    if SIMULATED:
        return Library(np, lambda a: a._ary, cuda.to_device, None, 0)
    home = type(x).__module__.partition(".")[0]
    if home == "torch":
        return _torch(x, lambda a: a, lambda a: a)
    if home == "cupy":
        return _cupy(x, lambda a: a)
    if find_spec("cupy") is not None:
        return _cupy(import_module("cupy").asarray(x), cuda.as_cuda_array)
    if find_spec("torch") is not None:
        torch = import_module("torch")
        return _torch(torch.as_tensor(x, device="cuda"), lambda a: torch.as_tensor(a, device="cuda"), cuda.as_cuda_array)
    raise ImportError("fastbptt.cuda: expected CuPy or PyTorch for the products of Numba's arrays, found neither; "
                      "pip install cupy-cuda13x, or cupy-cuda12x for CUDA 12")


def _torch(x: Any, own: Callable[[Any], Any], give: Callable[[Any], Any]) -> Library:
    torch = import_module("torch")
    return Library(TorchNames(torch, x.device), own, give, lambda: torch.cuda.device(x.device), x.device.index)


def _cupy(x: Any, give: Callable[[Any], Any]) -> Library:
    cupy = import_module("cupy")
    return Library(cupy, cupy.asarray, give, lambda: cupy.cuda.Device(x.device.id), x.device.id)
