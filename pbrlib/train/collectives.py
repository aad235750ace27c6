"""The collectives of a torch process group that the training loop uses."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


class ProcessGroup:
    """The collectives of a `pbrlib.train.runtime.Runtime` whose ranks share torch's default process group."""

    device: torch.device
    world_size: int

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum over the ranks."""
        summed = values.detach().clone().to(self.device)
        dist.all_reduce(summed)
        return summed

    def gather(self, value: list[str]) -> list[list[str]]:
        """Return the values of all ranks."""
        values: list[list[str]] = [[] for _ in range(self.world_size)]
        dist.all_gather_object(values, value)
        return values

    def share_buffers(self, module: nn.Module) -> None:
        """Broadcast each buffer from rank 0."""
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)
