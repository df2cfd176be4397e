"""The field's standard tasks, drawn from a seed: time-major (x, y, weights), for `SequenceModel` and `fit`.

Weights are 1 where an answer counts and 0 elsewhere. The chance level of a task is the mean loss of the counted steps, and the
accuracy, of the best constant answer: what a network reaches that ignores its input.
"""
from .batch import TaskBatch
from .images import digits
from .recall import copy_memory, delayed_match, echo
from .signals import flip_flop, sine
from .sums import adding, parity

__all__ = ["TaskBatch", "adding", "copy_memory", "delayed_match", "digits", "echo", "flip_flop", "parity", "sine"]
