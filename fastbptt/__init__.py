"""fastbptt: Numba kernels for backpropagation through time, and what gradients do on the way."""
from .arrays import Grads
from .bptt.passes import Tape, backward, forward, step
from .bptt.truncation import Truncation
from .cells.rnn import RNN, RNNParams, RNNState
from .engine.shards import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "RNN",
    "Grads",
    "RNNParams",
    "RNNState",
    "Tape",
    "Truncation",
    "backward",
    "forward",
    "get_num_threads",
    "set_num_threads",
    "step",
]
