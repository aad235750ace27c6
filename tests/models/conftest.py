"""Runs the tests on one thread, which is faster for these small networks."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
