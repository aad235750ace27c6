"""FiLM: feature-wise linear modulation (Perez et al. 2018) of one feature map by another, per pixel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pbrlib.models.blocks import resize


class FiLM(nn.Module):
    """Computes ``x * (1 + tanh(gamma(c))) + beta(c)``; gamma and beta are 1x1 convolutions that start at 0.

    With both at zero the module starts as the identity. Conditioning dropout multiplies both terms by a mask
    per sample, so every parameter takes part in every step (with a zero gradient for dropped samples) and
    DDP finds no unused parameter.
    """

    def __init__(self, channels: int, cond_channels: int, *, dropout: float) -> None:
        super().__init__()
        self.cond_channels = cond_channels
        self.dropout = dropout
        self.gamma = nn.Conv2d(cond_channels, channels, 1)
        self.beta = nn.Conv2d(cond_channels, channels, 1)
        for conv in (self.gamma, self.beta):
            nn.init.zeros_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        cond: Float[Tensor, "n k h_cond w_cond"] | None,
        *,
        keep: Float[Tensor, " n"] | None,
    ) -> Float[Tensor, "n c h w"]:
        """Modulate ``x`` by ``cond``.

        Args:
            x: Features to modulate.
            cond: Conditioning features of any size, resized to ``x``; None drops all conditioning.
            keep: 1 for a sample that sees its conditioning, else 0. None draws the mask with the dropout rate
                in training mode (torch's global generator) and is all ones in eval mode.
        """
        if cond is None:
            cond = x.new_zeros(x.shape[0], self.cond_channels, 1, 1)
            keep = x.new_zeros(x.shape[0])
        elif keep is None:
            keep = self._draw_keep(x)
        mask = keep.to(x.dtype).view(-1, 1, 1, 1)
        resized = resize(cond, (x.shape[2], x.shape[3]))
        out: Tensor = x * (1.0 + mask * torch.tanh(self.gamma(resized))) + mask * self.beta(resized)
        return out

    def _draw_keep(self, x: Tensor) -> Tensor:
        if not self.training or self.dropout == 0.0:
            return x.new_ones(x.shape[0])
        return (torch.rand(x.shape[0], device=x.device) >= self.dropout).to(x.dtype)
