"""What --dry-run prints: whether features can be made, for how many utterances, and how long it would take."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape

from cmarr_jax.data.corpus import ArchiveError
from data_prep.sounds import check_sounds
from data_prep.sources import Extraction, FromFile, Spec, make_source
from data_prep.utterances import Utterance

UNKNOWN_SECONDS = 4.0  # taken for an utterance whose length nothing tells
# Rough guesses: seconds of one core per second of speech, and bytes of features per second of speech.
_COST = {"audio": (0.1, 10 * 130 * 4), "video": (3.0, 10 * 342 * 4), "text": (0.1, 3 * 1024 * 4)}


def print_estimate(
    utterances: Sequence[Utterance], specs: Mapping[str, Spec], num_workers: int, console: Console
) -> None:
    """Opens what each modality comes from, reads files of finished features, and prints what is ready.

    Args:
      utterances: Those of the archive.
      specs: What each modality comes from.
      num_workers: Number of processes that would make features.
      console: To print on.
    """
    lengths: Mapping[str, float] = {}
    if any(item.media.audio for item in utterances):
        utterances, _, lengths = check_sounds(utterances, console)
    seconds = sum(_seconds(item, lengths) for item in utterances)
    time = size = 0.0
    for name, spec in specs.items():
        try:
            source = make_source(spec)
            text = f"{_count(source, utterances)} of {len(utterances)} utterances have a source; {spec.kind} is ready"
        except ArchiveError as error:
            count = sum(getattr(item.media, name, None) is not None for item in utterances)
            text = f"{count} of {len(utterances)} utterances have a source; {spec.kind} is not ready: {error}"
            source = None
        console.print(escape(f"{name}: {text}"))
        if isinstance(source, Extraction):
            per_second, bytes_per_second = _COST[source.extractor.modality]
            time, size = time + per_second * seconds / num_workers, size + bytes_per_second * seconds
    console.print(
        f"{seconds / 3600:.2f} hours of speech; roughly {time / 60:.0f} minutes with {num_workers} processes and "
        f"{3 * size / 1e9:.2f} GB of disk (cache, archive, tfds data set); nothing was written"
    )


def _count(source: Extraction | FromFile, utterances: Sequence[Utterance]) -> int:
    """How many utterances can have features. Raises ArchiveError if a file has those of none, or cannot be read."""
    having = [item for item in utterances if source.has(item)]
    return len(source.features(having)[0]) if isinstance(source, FromFile) and having else len(having)


def _seconds(item: Utterance, lengths: Mapping[str, float]) -> float:
    """Length of an utterance: between its times, else that of its sound, as far as they are known."""
    start, end = item.media.span
    if end is None:
        end = lengths.get(item.media.utterance_id, (start or 0.0) + UNKNOWN_SECONDS)
    return max(0.0, end - (start or 0.0))
