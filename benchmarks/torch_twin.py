"""CM-ARR in PyTorch: the same network, losses and training step as `cmarr_jax`, to compare speeds with.

Written as published code of the field is (MMIN, Zhao et al., ACL 2021: `nn.LSTM`, convolutions over text, Adam), with
the choices that were fastest on a CPU, so that no ratio to it is flattered: `nn.Conv1d` where MMIN has `nn.Conv2d`
(`planar=True`), heads and flows of all modalities in one batched product, Adam fused, no windows of padding. Only
what the benchmarks run is here: the default variants of CM-ARR, sequences only. What the loader leaves as zeros
(frames after an utterance's length, modalities it lacks) is not masked again before the encoders.

`tests/test_torch_twin.py` holds losses and gradients against `cmarr_jax`. Needs `pip install -e '.[bench]'`.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.torch_batch import Batch
from benchmarks.torch_losses import alignment, entropy_floor, flow_nll_per_dim, masked_mean, supervised_contrastive
from cmarr_jax.config import EncoderConfig, Hyperparameters, RunConfig, TrainConfig
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.methods import make_options
from cmarr_jax.methods.cm_arr import Options

SIZES = (  # options that the twin has at any value; the others must have their defaults
    "min_log_std",
    "max_log_std",
    "min_temperature",
    "max_temperature",
    "flow_layers",
    "flow_hidden",
    "flow_total_log_scale",
    "projection",
)


class LstmEncoder(nn.Module):
    """LSTM and maximum over the valid frames: `[B, T, D]`, `[B]` -> `[B, size]`."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.lstm = nn.LSTM(width, size, batch_first=True)

    def forward(self, frames: Tensor, length: Tensor) -> Tensor:
        return masked_max(self.lstm(frames)[0], length, dim=1)


class ConvEncoder(nn.Module):
    """Convolutions of several widths, maximum over the windows inside the utterance, one layer.

    With `planar` they are `conv2d` with kernels as wide as the features, as published code has them.
    """

    def __init__(self, width: int, config: EncoderConfig, dropout: float, *, planar: bool = False):
        super().__init__()
        self.planar = planar
        channels = config.conv_channels
        self.widths = config.conv_widths
        self.convs = nn.ModuleList(nn.Conv1d(width, channels, taps) for taps in self.widths)
        self.output = nn.Linear(channels * len(self.convs), config.embedding)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, length: Tensor) -> Tensor:
        frames = F.pad(frames, (0, 0, 0, max(0, max(self.widths) - frames.shape[1])))
        frames = frames[:, None] if self.planar else frames.transpose(1, 2).contiguous()
        pooled = [
            masked_max(self._windows(conv, frames), length - width + 1, dim=2)
            for conv, width in zip(self.convs, self.widths, strict=True)
        ]
        return F.relu(self.output(self.dropout(F.relu(torch.cat(pooled, dim=-1)))))

    def _windows(self, conv: nn.Module, frames: Tensor) -> Tensor:
        if not self.planar:
            return conv(frames)
        return F.conv2d(frames, conv.weight.transpose(1, 2)[:, None], conv.bias)[..., 0]


class Linears(nn.Module):
    """One linear layer per modality as one batched product: `[M, B, in]` -> `[M, B, out]`."""

    def __init__(self, count: int, width: int, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, width, size) / math.sqrt(width))
        self.bias = nn.Parameter(torch.zeros(count, 1, size))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class GaussianHeads(nn.Module):
    """A Gaussian per modality: `[M, B, D]` -> mean and log_std; the mean is the input itself."""

    def __init__(self, count: int, size: int, options: Options):
        super().__init__()
        self.bounds = options.min_log_std, options.max_log_std
        self.log_std = Linears(count, size, size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, soft_bound(self.log_std(x.detach()), *self.bounds)


class Flows(nn.Module):
    """A RealNVP per modality: affine couplings over alternating halves, `[M, B, D]`."""

    def __init__(self, count: int, size: int, options: Options):
        super().__init__()
        hidden = options.flow_hidden
        self.split, self.bound = size // 2, options.flow_total_log_scale / (options.flow_layers // 2)
        self.conditioners = nn.ModuleList()
        for layer in range(options.flow_layers):
            changed = self.split if layer % 2 else size - self.split
            last = Linears(count, hidden, 2 * changed)
            nn.init.zeros_(last.weight)
            layers = Linears(count, size - changed, hidden), nn.ReLU(), Linears(count, hidden, hidden), nn.ReLU(), last
            self.conditioners.append(nn.Sequential(*layers))

    def to_latent(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_det = torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)
        for layer, conditioner in enumerate(self.conditioners):
            kept, changed = self._halves(x, layer)
            shift, log_scale = self._affine(conditioner(kept))
            x = self._join(kept, (changed - shift) * torch.exp(-log_scale), layer)
            log_det = log_det - log_scale.sum(-1)
        return x, log_det

    def from_latent(self, x: Tensor) -> Tensor:
        for layer, conditioner in reversed(list(enumerate(self.conditioners))):
            kept, changed = self._halves(x, layer)
            shift, log_scale = self._affine(conditioner(kept))
            x = self._join(kept, changed * torch.exp(log_scale) + shift, layer)
        return x

    def _halves(self, x: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        first, second = x[..., : self.split], x[..., self.split :]
        return (second, first) if layer % 2 else (first, second)

    def _join(self, kept: Tensor, changed: Tensor, layer: int) -> Tensor:
        return torch.cat((changed, kept) if layer % 2 else (kept, changed), dim=-1)

    def _affine(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = raw.chunk(2, dim=-1)
        return shift, self.bound * torch.tanh(log_scale / self.bound)


class Twin(nn.Module):
    """The whole network and its losses; parameters from `from_flax`, or PyTorch's own initial ones.

    `planar` is the form of the text convolutions: `ConvEncoder`.

    Raises:
      ValueError: if the config asks for a variant that is not here.
    """

    def __init__(self, config: RunConfig, *, planar: bool = False):
        super().__init__()
        encoders, options = config.encoders, make_options("cm_arr", config.options)
        sizes = {name: getattr(options, name) for name in SIZES}
        kinds = {modality.encoder for modality in encoders.modalities}
        if config.method != "cm_arr" or options != Options(**sizes) or encoders.frame_attention or "vector" in kinds:
            raise ValueError(f"the twin is CM-ARR in its default variants, sequences only; found {config}")
        size, count = encoders.embedding, encoders.num_modalities
        self.encoders = nn.ModuleDict(
            {
                m.name: LstmEncoder(m.width, size)
                if m.encoder == "lstm"
                else ConvEncoder(m.width, encoders, config.dropout, planar=planar)
                for m in encoders.modalities
            }
        )
        self.heads, self.flows = GaussianHeads(count, size, options), Flows(count, size, options)
        self.projection = nn.Linear(size, options.projection)
        self.classifier = nn.Sequential(
            nn.Linear(count * size, size),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(size, size),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(size, config.num_classes),
        )
        self.raw_temperature = nn.Parameter(torch.zeros(()))
        self.temperatures = options.min_temperature, options.max_temperature

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and log_std of every modality, `[M, B, D]`."""
        embeddings = [encoder(batch.features[name], batch.length[name]) for name, encoder in self.encoders.items()]
        return self.heads(torch.stack(embeddings))

    def temperature(self) -> Tensor:
        return torch.exp(soft_bound(self.raw_temperature, *map(math.log, self.temperatures)))

    def complete(self, points: Tensor, available: Tensor) -> Tensor:
        """Available points as they are, the others recovered, `[M, B, D]`; `available [M, B, 1]`."""
        latent, _ = self.flows.to_latent(torch.where(available, points, 0.0))
        shared = torch.where(available, latent, 0.0).sum(0) / available.sum(0).clamp(min=1)
        return torch.where(available, points, self.flows.from_latent(shared.expand_as(latent)))

    def classify(self, points: Tensor) -> Tensor:
        return self.classifier(points.transpose(0, 1).flatten(1))

    def forward(
        self, batch: Batch, available: Tensor, weights: Mapping[str, float], noise: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its terms, as `cmarr_jax.methods.cm_arr.loss`; `noise [M, B, D]` is drawn if none is given."""
        mean, log_std = self.encode(batch)
        std = torch.exp(log_std)
        points = mean + std * (torch.randn_like(mean) if noise is None else noise)
        seen, present = available.T, batch.present.T  # [M, B]
        masked = torch.where(seen[..., None], points, 0.0)
        completed = self.complete(points, seen[..., None])
        labels = batch.label.repeat(len(present))
        error = ((completed - mean.detach()) ** 2).mean(-1)
        terms = {
            "cross_entropy": F.cross_entropy(self.classify(completed), batch.label.long()),
            "alignment": alignment(mean, std, seen, self.temperature()),
            "entropy": masked_mean(entropy_floor(log_std, float(weights["entropy_floor"])), seen),
            "nll": masked_mean(flow_nll_per_dim(*self.flows.to_latent(masked.detach())), seen),
            "refinement": supervised_contrastive(
                self.projection(completed).flatten(0, 1),
                labels,
                present.flatten(),
                float(weights["refinement_temperature"]),
            ),
            "squared_error": masked_mean(error, present & ~seen),
        }
        weights = {**weights, "cross_entropy": 1.0}
        return sum(weights[name] * value for name, value in terms.items()), terms


def masked_max(values: Tensor, count: Tensor, *, dim: int) -> Tensor:
    """Maximum of `[B, ...]` over the first `count [B]` entries of axis 1 or 2, over one at least."""
    valid = torch.arange(values.shape[dim], device=values.device) < count.clamp(min=1)[:, None]
    return values.masked_fill(~valid.unsqueeze(3 - dim), -math.inf).amax(dim)


def soft_bound(x: Tensor, low: float, high: float) -> Tensor:
    middle, half = (low + high) / 2, (high - low) / 2
    return middle + half * torch.tanh(x / half)


def sample_available(present: Tensor, patterns: Tensor) -> Tensor:
    """One availability pattern per utterance, uniform over the non-empty subsets of what it has, `[B, M]`."""
    allowed = (present[:, None] | ~patterns[None]).all(-1)
    return patterns[torch.multinomial(allowed.float(), 1)[:, 0]]


def make_step(
    model: Twin, config: TrainConfig, hyper: Hyperparameters, *, compiled: bool = False
) -> Callable[[Batch], float]:
    """A stage-2 training step that changes the model: `step(batch) -> loss` (waits for an accelerator)."""
    optimizer = torch.optim.Adam(model.parameters(), lr=float(hyper.learning_rate), fused=True)
    patterns = torch.as_tensor(availability_patterns(len(model.encoders))).to(model.raw_temperature.device)
    loss_fn = torch.compile(model) if compiled else model

    def step(batch: Batch) -> float:
        available = sample_available(batch.present, patterns)
        optimizer.zero_grad(set_to_none=True)
        loss, _ = loss_fn(batch, available, hyper.weights)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        return loss.item()

    return step
