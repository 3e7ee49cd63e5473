"""What compiled functions are given: a row of int64 for each piece of work, addresses (in bytes) and numbers.

Compiled code believes every address, so a row is made from names, and a name too few or too many is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Value = TypeVar("Value")


def by_field(fields: Sequence[str], values: Mapping[str, Value]) -> list[Value]:
    """The values in the order of the fields.

    Raises:
        TypeError: a field without a value, or a value without a field.
    """
    if values.keys() != set(fields):
        missing, unknown = sorted(set(fields) - values.keys()), sorted(values.keys() - set(fields))
        raise TypeError(f"arguments of compiled code: missing {missing}, unknown {unknown}")
    return [values[field] for field in fields]


def arguments(fields: Sequence[str], pieces: int, **values: Any) -> Any:
    """int64 [pieces, fields].

    Args: values: by field a number, an int64 array [pieces], or a float32 tensor, whose address it stands for.

    Raises:
        TypeError: as `by_field`, or a tensor of another precision.
    """
    table = np.empty((pieces, len(fields)), dtype=np.int64)
    for column, value in enumerate(by_field(fields, values)):
        table[:, column] = address(value) if isinstance(value, Tensor) else value
    return table


def address(tensor: Tensor) -> int:
    """Of a float32 tensor on the CPU.

    Raises:
        TypeError: it is another one.
    """
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise TypeError(f"compiled code takes float32 on the CPU, not {tensor.dtype} on {tensor.device}")
    return tensor.data_ptr()
