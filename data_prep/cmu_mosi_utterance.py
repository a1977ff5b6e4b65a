"""CMU-MOSI at utterance level as a feature archive: transcript, acoustic and visual features, with their own split.

python -m data_prep.cmu_mosi_utterance cmu_mosi_utterance.npz mosi.npz
"""

import sys
from collections.abc import Collection, Sequence

import numpy as np

from cmarr_jax.data.corpus import ArchiveError, Corpus
from data_prep.convert import Flag, Out, Source, read_source, run_command, write_new

CLASS_NAMES = ("negative", "positive")
MODALITIES = ("text_minilm", "acoustic", "visual")
HELD_OUT = 5  # every fifth training video is used for validation


def validation_videos(training_videos: Collection[str]) -> list[str]:
    """Every fifth training video, sorted by id."""
    return sorted(training_videos)[HELD_OUT - 1 :: HELD_OUT]


def to_corpus(source: dict[str, np.ndarray]) -> Corpus:
    """All segments; speaker and session are the video; validation is every fifth training video, sorted by id.

    The features `visual` were learned with the labels of the source's training videos, and validation videos are some
    of these: on them `visual` is better than on test videos. `text` of the source has the same flaw, so `text_minilm`
    is used.
    """
    video, split = source["video_id"], source["split"].astype("<U5")
    training_videos = set(video[split == "train"].tolist())
    held_out = np.isin(video, validation_videos(training_videos)) & (split == "train")
    return Corpus(
        utterance_id=source["utt_id"],
        speaker=video,
        session=video,
        label=source["label"],
        class_names=CLASS_NAMES,
        features={name: source[name] for name in MODALITIES},
        length={},
        present=np.ones((len(video), len(MODALITIES)), bool),
        split=np.where(held_out, "val", split),
    )


def convert(
    source: Source,
    out: Out,
    force: Flag = False,
) -> None:
    """Writes utterance-level CMU-MOSI (negative, positive) as a feature archive with the split of bc-LSTM.

    Test is bc-LSTM's. Validation is every fifth of its training videos: visual features were learnt with the labels of
    these, so validation overrates visual.

    Args:
      source: cmu_mosi_utterance.npz.
      out: The archive to write.
      force: Replaces an archive that is there.
    """
    arrays = read_source(source, ("utt_id", "video_id", "label", "split", *MODALITIES))
    unknown = sorted(set(arrays["split"].tolist()) - {"train", "test"})
    if unknown:
        raise ArchiveError(f"{source}: key 'split' holds {unknown[0]!r}; only train and test are expected")
    wrong = np.argwhere(~np.isin(arrays["label"], (0, 1)))  # -1 would be a label that is not known
    if len(wrong):
        text = f"row {wrong[0][0]}: {arrays['label'][tuple(wrong[0])]} is neither 0 nor 1; download it again"
        raise ArchiveError(f"{source}: key 'label', {text}")
    write_new(out, to_corpus(arrays), force=force)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.cmu_mosi_utterance")


if __name__ == "__main__":
    sys.exit(main())
