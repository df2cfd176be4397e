"""Weights of other libraries, in and out. Each module imports the library it is named after only where it needs it."""

from . import torch

__all__ = ["torch"]
