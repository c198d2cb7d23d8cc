"""Vectors by their direction alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def unit(vectors: Vectors) -> Vectors:
    """Return vectors (n, dimensions) at length 1; one of zeros stays as it is."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    divided: Vectors = np.divide(vectors, np.where(length == 0, 1, length))
    return divided.astype(np.float32, copy=False)
