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
    row = [values[field] for field in fields if field in values]
    if not len(row) == len(fields) == len(values):
        missing, unknown = sorted(set(fields) - values.keys()), sorted(values.keys() - set(fields))
        raise TypeError(f"arguments of compiled code: missing {missing}, unknown {unknown}")
    return row


def arguments(fields: Sequence[str], pieces: int, **values: Any) -> Any:
    """int64 [pieces, fields].

    Args: values: by field a number, or an int64 array [pieces].

    Raises:
        TypeError: as `by_field`.
    """
    table = np.empty((pieces, len(fields)), dtype=np.int64)
    for column, value in enumerate(by_field(fields, values)):
        table[:, column] = value
    return table


def address(tensor: Tensor) -> int:
    """Of a float32 tensor on the CPU.

    Raises:
        TypeError: it is another one.
    """
    if tensor.dtype is not torch.float32 or not tensor.is_cpu:
        raise TypeError(f"compiled code takes float32 on the CPU, not {tensor.dtype} on {tensor.device}")
    return tensor.data_ptr()
