"""What the commands of the licensed raw corpora share: their options, known counts, and a manifest on request."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cmarr_jax.data.corpus import ArchiveError
from data_prep import known_counts
from data_prep.convert import Flag, check_new
from data_prep.manifest_file import to_rows
from data_prep.manifest_table import write_manifest
from data_prep.prepare import Job, Options, prepare
from data_prep.utterances import Parsed


@dataclasses.dataclass(frozen=True)
class CorpusOptions(Options):
    """Options of the licensed corpora, whose defaults need local weights.

    Attributes:
      audio: Extractor of the sound, as NAME or NAME:key=value,key=value; or features:FILE for finished features; none
        leaves the modality out.
      video: The same for the picture.
      text: The same for the transcript.
      num_classes: 4, or 5 (IEMOCAP: excited apart from happy; MSP-IMPROV: other as a class).
      allow_count_differences: Goes on when the counts per speaker and class are not the known ones.
      write_manifest: Writes all utterances as a manifest (CSV), too. It holds transcripts: keep it to yourself.
    """

    audio: str = "compare_2016"
    video: str = "face_onnx"
    text: str = "text_transformer"
    num_classes: int = 4
    allow_count_differences: Flag = False
    write_manifest: Path | None = None


DEFAULTS = CorpusOptions()


def convert_raw(
    name: str, root: Path, out: Path, parsed: Parsed, classes: Mapping[int, Mapping[str, str]], options: CorpusOptions,
    record: dict[str, Any],
) -> None:  # fmt: skip
    """Makes the archive of a raw corpus.

    Args:
      name: `iemocap` or `msp_improv`.
      root: The raw corpus, for messages.
      out: The archive to write.
      parsed: What the parser found.
      classes: Per number of classes, which of the corpus's labels become which class.
      options: The command line.
      record: Options of the parser, for the record.

    Raises:
      ArchiveError: for any error in the data or the options.
    """
    if options.num_classes not in classes:
        raise ArchiveError(f"--num-classes: 4 or 5, found {options.num_classes}")
    if options.write_manifest and not options.dry_run:
        check_new(options.write_manifest, force=options.force)
        write_manifest(options.write_manifest, to_rows(parsed.utterances, options.write_manifest.parent))

    def check(speakers: Sequence[str], labels: Sequence[str], console: Console) -> None:
        found = known_counts.count(speakers, labels)
        allow = options.allow_count_differences
        known_counts.check_counts(name, found, source=str(root), allow=allow, console=console)

    emotions = classes[options.num_classes]
    job = Job(name, root, out, emotions, tuple(sorted(set(emotions.values()))), record, check)
    prepare(job, parsed, options)
