"""What the benchmarks compute on: encoders of MMIN's sizes, fixed or IEMOCAP-like lengths. All data are generated."""

import dataclasses
import functools
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.config import EncoderConfig, ModalityConfig, RunConfig
from cmarr_jax.data.batching import example_batch
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.methods import make_method
from cmarr_jax.methods.base import Params
from cmarr_jax.types import Batch
from data_prep.synthetic import generative
from experiments.presets import VECTORS

WIDTHS = {"audio": 130, "video": 342, "text": 1024}  # ComParE, DenseFace, BERT-large
FRAMES = {"audio": 50, "video": 50, "text": 22}
VECTOR_WIDTHS = {"audio": 76, "video": 64, "text": 6}  # one vector per utterance
NUM_CLASSES = 4


def mmin_sized_config() -> RunConfig:
    """CM-ARR as in the tables on IEMOCAP: every field but the modalities is the default."""
    kind = {"audio": "lstm", "video": "lstm", "text": "conv"}
    modalities = tuple(ModalityConfig(name, width, kind[name]) for name, width in WIDTHS.items())
    return RunConfig("cm_arr", EncoderConfig(modalities), NUM_CLASSES)


def vector_config(method: str, **options: Any) -> RunConfig:
    """A method as in the tables on corpora with one vector per utterance, with some of its options changed."""
    modalities = tuple(ModalityConfig(name, width, "vector") for name, width in VECTOR_WIDTHS.items())
    config = VECTORS.run_config(method, modalities, NUM_CLASSES)
    return dataclasses.replace(config, options={**config.options, **options})


def fixed_batch(size: int, frames: Mapping[str, int] = FRAMES) -> Batch:
    """Random features with everything present and all of one length."""
    rng = np.random.default_rng(0)
    features = OrderedDict(
        (name, jnp.asarray(rng.standard_normal((size, frames[name], width), np.float32)))
        for name, width in WIDTHS.items()
    )
    return Batch(
        features=features,
        length={name: jnp.full(size, frames[name], jnp.int32) for name in WIDTHS},
        present=jnp.ones((size, len(WIDTHS)), bool),
        label=jnp.asarray(rng.integers(NUM_CLASSES, size=size), jnp.int32),
        where=jnp.ones(size, bool),
    )


def vector_batch(size: int) -> Batch:
    """Random vectors with everything present."""
    rng = np.random.default_rng(0)
    features = OrderedDict(
        (name, jnp.asarray(rng.standard_normal((size, width), np.float32))) for name, width in VECTOR_WIDTHS.items()
    )
    label = jnp.asarray(rng.integers(NUM_CLASSES, size=size), jnp.int32)
    return Batch(features, {}, jnp.ones((size, len(features)), bool), label, jnp.ones(size, bool))


def iemocap_like_corpus(scale: float = 1.0) -> Corpus:
    """The synthetic corpus with the widths of MMIN's features: 5,531 utterances at scale 1."""
    return generative.sample(generative.make_parameters(WIDTHS), scale=scale)


@functools.lru_cache
def _init_params(config: str) -> Params:
    run = RunConfig.from_dict(json.loads(config))
    method = make_method(run)
    return jax.device_get(jax.jit(method.init)(jax.random.key(0), example_batch(run.encoders.modalities)))


def init_params(config: RunConfig) -> Params:
    """Initial parameters of the method, a copy of their own at each call, for a caller that gives them up."""
    return jax.tree.map(jnp.array, _init_params(json.dumps(config.to_dict())))


def encoder_train_flops(config: EncoderConfig, length: Mapping[str, np.ndarray]) -> float:
    """Floating point operations of one training step of the encoders on utterances of these lengths.

    Only the matrix products over frames are counted, on valid frames and windows, a product `[n, k] @ [k, m]` as
    `2 n k m`. A product whose input needs no gradient (the features) costs twice its forward pass in training, the
    recurrent one, whose input does, three times. With H hidden units, D features, C channels and lengths T:

        LSTM         sum(T) * 2 * 4 H * (2 D + 3 H)
        convolutions sum over widths w of  sum(max(T - w + 1, 1)) * 2 * w D C * 2

    Args:
      config: Sizes; encoders of whole vectors are not counted.
      length: Frames of each utterance, `[B]` per modality.
    """
    total = 0.0
    for modality in config.modalities:
        frames, width = np.asarray(length.get(modality.name, [])), modality.width
        if modality.encoder == "lstm":
            total += frames.sum() * 8 * config.embedding * (2 * width + 3 * config.embedding)
        elif modality.encoder == "conv":
            for taps in config.conv_widths:
                total += np.maximum(frames - taps + 1, 1).sum() * 4 * taps * width * config.conv_channels
    return float(total)
