"""Weights from and to other libraries. Only `safetensors` needs the library that it is named after."""

from . import keras, onnx, safetensors, torch

__all__ = ["keras", "onnx", "safetensors", "torch"]
