"""Loads the synthetic corpus and its Bayes ceiling; the first call generates it as a tfds data set."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from cmarr_jax.data.corpus import Corpus
from data_prep.quiet_tfds import quiet_tfds
from data_prep.synthetic import generative, posterior
from data_prep.synthetic.hard import WIDTHS
from data_prep.synthetic.synthetic_dataset_builder import Builder, SyntheticConfig, make_parameters


class Loaded(NamedTuple):
    """A corpus with the log-likelihoods and the prior for Bayes' rule.

    Attributes:
      corpus: In the order of `utterance_id`.
      log_likelihood: Nats up to a constant per utterance and pattern, `[N, P, K]`, float64; patterns in the order of
        `cmarr_jax.data.availability.availability_patterns(3)`. See `posterior.log_likelihood`.
      log_prior: Log of the class shares of the whole corpus, `[K]`, float64.
    """

    corpus: Corpus
    log_likelihood: np.ndarray
    log_prior: np.ndarray


def load(
    *,
    scale: float = 1.0,
    frame_scale: float = 1.0,
    seed: int = 0,
    hard: bool = False,
    widths: Mapping[str, int] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> Loaded:
    """Loads the synthetic corpus; generates it first if `data_dir` does not hold it.

    Each set of options and each version has its own folder in `data_dir`. A folder is written under a temporary name
    and then renamed; if it cannot be read, it is generated again.

    Args:
      scale: Multiplies IEMOCAP's class counts per speaker; 1 gives 5,531 utterances.
      frame_scale: Multiplies all lengths.
      seed: Seed of everything random, >= 0.
      hard: Whether it is the hard set (`hard.py`), with wide features.
      widths: D of `audio`, `video`, `text`, each >= 4 (more of the hard set); by default those of the set.
      data_dir: Where tfds keeps the data; by default `cmarr_jax/tfds` in `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
      ValueError: if an option is out of range.
    """
    if widths is None:
        widths = WIDTHS if hard else generative.DEFAULT_WIDTHS
    parameters = make_parameters(hard, widths)  # checks the widths
    if frame_scale <= 0 or seed < 0:
        raise ValueError(f"frame_scale > 0 and seed >= 0 are wanted, found {frame_scale} and {seed}")
    count = sum(int(counts.sum()) for counts in generative.class_counts(scale).values())
    config = SyntheticConfig(
        scale=scale,
        frame_scale=frame_scale,
        seed=seed,
        hard=hard,
        audio_width=widths["audio"],
        video_width=widths["video"],
        text_width=widths["text"],
    )
    root = Path(data_dir) if data_dir is not None else default_data_dir()
    try:
        corpus = _read(_prepare(config, root), count)
    except Exception:  # damaged files give errors of many kinds; a fault of another cause comes again below
        shutil.rmtree(root / Builder.name / config.name / str(Builder.VERSION), ignore_errors=True)
        corpus = _read(_prepare(config, root), count)
    return Loaded(corpus, posterior.log_likelihood(corpus, parameters), class_log_prior(corpus))


def default_data_dir() -> Path:
    """`cmarr_jax/tfds` in the user's cache: `$XDG_CACHE_HOME`, or `~/.cache` where it is not set."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "cmarr_jax" / "tfds"


def class_log_prior(corpus: Corpus) -> np.ndarray:
    """Log of the class shares, `[K]`, float64."""
    return np.log(np.bincount(corpus.label, minlength=corpus.num_classes) / len(corpus))


def _prepare(config: SyntheticConfig, root: Path) -> Builder:
    """Generates and writes the data set unless it exists. If two processes do so, that of the first to end is used."""
    with quiet_tfds():
        builder = _make_builder(config, root)
        if builder.is_prepared():
            return builder
        if builder.data_path.exists():  # tfds renames complete folders, so someone took files away
            shutil.rmtree(builder.data_path)
        try:
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
        except OSError:  # the folder cannot be renamed to one that another process has filled meanwhile
            if not builder.is_prepared():
                raise
        return _make_builder(config, root)


def _make_builder(config: SyntheticConfig, root: Path) -> Builder:
    known = config.name in Builder.builder_configs  # one that tfds knows has to be given by name
    return Builder(config=config.name if known else config, data_dir=root, file_format="array_record")


def _read(builder: Builder, count: int) -> Corpus:
    """The corpus in the order of `utterance_id`."""
    source = builder.as_data_source(split="utterances")
    if len(source) != count:
        raise ValueError(f"{count} utterances are wanted in {builder.data_path}, found {len(source)}")
    examples = sorted((source[row] for row in range(count)), key=lambda example: example["utterance_id"])
    text = lambda key: np.array([example[key].decode() for example in examples])
    frames = {name: [example[name] for example in examples] for name in generative.MODALITIES}
    return Corpus(
        utterance_id=text("utterance_id"),
        speaker=text("speaker"),
        session=text("session"),
        label=np.array([example["label"] for example in examples], np.int32),
        class_names=generative.CLASS_NAMES,
        features={name: np.concatenate(parts) for name, parts in frames.items()},
        length={name: np.array([len(part) for part in parts], np.int32) for name, parts in frames.items()},
        present=np.ones((count, len(frames)), bool),
    )
