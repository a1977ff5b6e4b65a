"""The losses of `cmarr_jax.losses` in PyTorch, reduced to scalars, for the twin of the benchmarks."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_mean(values: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, values, 0.0).sum() / where.sum().clamp(min=1)


def entropy_floor(log_std: Tensor, floor: float) -> Tensor:
    return F.relu(floor - log_std.mean(-1) - 0.5 * math.log(2 * math.pi * math.e))


def flow_nll_per_dim(latent: Tensor, log_det: Tensor) -> Tensor:
    return 0.5 * (latent**2).mean(-1) + 0.5 * math.log(2 * math.pi) - log_det / latent.shape[-1]


def alignment(mean: Tensor, std: Tensor, seen: Tensor, temperature: Tensor) -> Tensor:
    """Symmetric InfoNCE of squared 2-Wasserstein distances for all pairs of modalities at once, a scalar."""
    gaussians = torch.where(seen[..., None], torch.cat((mean, std), dim=-1), 1.0)
    gaussians = gaussians - gaussians.detach()[-1].mean(0)  # a shift changes no distance, only rounding
    # Stacked, because indexing by a list breaks the heap under torch.compile (2.13, CPU).
    pairs = list(itertools.combinations(range(len(mean)), 2))
    pick = lambda values, side: torch.stack([values[pair[side]] for pair in pairs])
    a, b, where = pick(gaussians, 0), pick(gaussians, 1), pick(seen, 0) & pick(seen, 1)  # [P, B, 2 D], [P, B]
    squared = (a**2).sum(-1)[:, :, None] + (b**2).sum(-1)[:, None] - 2 * torch.bmm(a, b.transpose(1, 2))
    logits = -squared.clamp(min=0) / (mean.shape[-1] * temperature)
    to_b, to_a = (masked_logits(x, where[:, None], where) for x in (logits, logits.transpose(1, 2)))
    values = 0.5 * (torch.logsumexp(to_b, -1) + torch.logsumexp(to_a, -1)) - logits.diagonal(dim1=1, dim2=2)
    return masked_mean(values, where)


def supervised_contrastive(points: Tensor, labels: Tensor, where: Tensor, temperature: float) -> Tensor:
    """SupCon (L_out) of `[N, D]` over the points that count, a scalar."""
    points = points * torch.rsqrt((points**2).sum(-1, keepdim=True) + 1e-8)
    allowed = where[None] & ~torch.eye(len(points), dtype=torch.bool, device=points.device)
    positive = allowed & (labels[:, None] == labels[None])
    count = positive.sum(-1)
    valid = where & (count > 0)
    logits = masked_logits(points @ points.T / temperature, allowed, valid)
    values = torch.logsumexp(logits, -1) - torch.where(positive, logits, 0.0).sum(-1) / count.clamp(min=1)
    return masked_mean(values, valid)


def masked_logits(logits: Tensor, candidate: Tensor, valid: Tensor) -> Tensor:
    """-inf for what is no candidate, zeros in rows that do not count."""
    return torch.where(valid[..., None], logits.masked_fill(~candidate, -math.inf), 0.0)
