"""These nets are too small to share between cores: one thread is faster."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
