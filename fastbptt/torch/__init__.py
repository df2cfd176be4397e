"""`torch.nn.RNN`, `GRU` and `LSTM` computed by the kernels of this package: the same constructors, parameters and results.

    from fastbptt.torch import LSTM        # in place of: from torch.nn import LSTM
"""
try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("fastbptt.torch: expected PyTorch to be installed, got none; "
                      "install it with: pip install 'fastbptt[torch]'") from error

from .modules import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN"]
