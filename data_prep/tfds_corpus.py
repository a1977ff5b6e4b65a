"""Corpora as tfds data sets, written from an archive and its details file and read back without loss.

    python -m data_prep.tfds_corpus DATA_SET OUT.npz

writes the archive (and its details file) back from the folder of a prepared data set. The data set itself needs tfds
only: `tfds.data_source` or `tfds.builder_from_directory(DATA_SET).as_data_source()`.
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tensorflow_datasets as tfds
import tyro

from cmarr_jax.data.archive import read_archive, sha256, write_archive
from cmarr_jax.data.corpus import ArchiveError, Corpus, check_corpus
from data_prep.convert import Flag, Out, run_command
from data_prep.details import (
    DATASET_VERSION,
    EXTRA,
    NUMBERS,
    TEXT,
    Details,
    check_modality_names,
    config_name,
    dataset_folder,
    details_path,
    read_details,
    write_details,
)
from data_prep.known_counts import CLASS_NAMES
from data_prep.quiet_tfds import quiet_tfds
from data_prep.write import check_out

SPLIT = "utterances"  # one split, since folds are made from the speakers
_TEXTS = ("utterance_id", "speaker", "session", "split", *TEXT, EXTRA)
DataSet = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA_SET")]


@dataclasses.dataclass(eq=False)
class CorpusConfig(tfds.core.BuilderConfig):
    """The archive that becomes a data set, and its contents. The defaults are the features of the MMIN family.

    Attributes:
      name: Folder of the data set.
      archive: The archive; `None`: `CORPUS.npz` in the manual folder of tfds. Its details file lies beside it.
      shapes: Per modality, the shape of one utterance: `(None, D)` or `(D,)`.
      dtypes: Per modality, `float32` or `float16`.
      class_names: Names of the classes.
      record: How the features were made.
    """

    name: str = "archive"
    archive: Path | None = None
    shapes: dict[str, tuple[int | None, ...]] = dataclasses.field(
        default_factory=lambda: {"audio": (None, 130), "video": (None, 342), "text": (None, 1024)}
    )
    dtypes: dict[str, str] = dataclasses.field(default_factory=dict)
    class_names: tuple[str, ...] = CLASS_NAMES
    record: dict = dataclasses.field(default_factory=dict)


class CorpusBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base class of the builders. A subclass adds description, citation and licence."""

    VERSION = tfds.core.Version(DATASET_VERSION)
    RELEASE_NOTES = {DATASET_VERSION: "First version."}  # noqa: RUF012  (an attribute that tfds reads)
    DESCRIPTION = CITATION = LICENSE = HOMEPAGE = ""
    builder_config: CorpusConfig | None

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config or CorpusConfig()
        tensors = {
            name: tfds.features.Tensor(shape=shape, dtype=np.dtype(config.dtypes.get(name, "float32")))
            for name, shape in config.shapes.items()
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            citation=self.CITATION,
            license=self.LICENSE,
            homepage=self.HOMEPAGE,
            features=tfds.features.FeaturesDict(
                {
                    **{key: tfds.features.Text() for key in _TEXTS},
                    **dict.fromkeys(("target", *NUMBERS), np.float32),
                    "label": tfds.features.ClassLabel(names=list(config.class_names)),
                    **tensors,
                    **{f"{name}_present": np.bool_ for name in tensors},
                }
            ),
            metadata=tfds.core.MetadataDict(
                modalities=list(config.shapes), class_names=list(config.class_names), record=config.record
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        config = self.builder_config or CorpusConfig()
        archive = config.archive or Path(dl_manager.manual_dir) / f"{self.name}.npz"
        if not archive.exists():
            raise ArchiveError(f"{archive}: is not there; {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        corpus, details = read_archive(archive), read_details(details_path(archive))
        if not np.array_equal(corpus.utterance_id, details.utterance_id):
            text = "lists other utterances than the archive; write both again"
            raise ArchiveError(f"{details_path(archive)}: key 'utterance_id' {text}")
        if (shapes_of(corpus), corpus.class_names) != (config.shapes, config.class_names):
            text = f"holds {shapes_of(corpus)} and classes {corpus.class_names} where the config says {config.shapes}"
            raise ArchiveError(f"{archive}: {text} and {config.class_names}; write it with write_dataset")
        return {SPLIT: self._generate_examples(corpus, details)}

    def _generate_examples(self, corpus: Corpus, details: Details) -> Iterator[tuple[int, dict[str, Any]]]:
        ends = {name: np.cumsum(length, dtype=np.int64) for name, length in corpus.length.items()}
        for row, utterance_id in enumerate(corpus.utterance_id.tolist()):
            example: dict[str, Any] = {"utterance_id": utterance_id, "label": int(corpus.label[row])}
            example["split"] = "" if corpus.split is None else str(corpus.split[row])
            example["target"] = np.float32(np.nan if corpus.target is None else corpus.target[row])
            for key in ("speaker", "session"):
                example[key] = str(getattr(corpus, key)[row])
            example |= {key: str(getattr(details, key)[row]) for key in TEXT}
            example |= {key: getattr(details, key)[row] for key in NUMBERS}
            example[EXTRA] = json.dumps({key: str(column[row]) for key, column in details.extra.items()})
            for column, (name, features) in enumerate(corpus.features.items()):
                first = ends[name][row] - corpus.length[name][row] if name in ends else row
                example[name] = features[first : ends[name][row]] if name in ends else features[row]
                example[f"{name}_present"] = bool(corpus.present[row, column])
            yield row, example


class Recordings(CorpusBuilder):
    """What `python -m data_prep.manifest` wrote: `recordings.npz` and `recordings_details.npz`."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "write it with python -m data_prep.manifest"
    DESCRIPTION = "Utterances of a manifest: features of each, its label, speaker and further columns."


def shapes_of(corpus: Corpus) -> dict[str, tuple[int | None, ...]]:
    """Per modality, the shape of one utterance."""
    return {name: (None, width) if name in corpus.length else (width,) for name, width in corpus.widths.items()}


def dataset_path(builder_class: type[CorpusBuilder], archive: Path, data_dir: Path) -> Path:
    """The folder that `write_dataset` fills."""
    return dataset_folder(builder_class.name, archive, data_dir)


def write_dataset(builder_class: type[CorpusBuilder], archive: Path, data_dir: Path, *, corpus: Corpus) -> Path:
    """Writes an archive and its details as a tfds data set (array_record, without TensorFlow).

    Args:
      builder_class: Of the corpus.
      archive: The archive; its details file must lie beside it.
      data_dir: Where tfds keeps data sets. One of the same corpus and archive name is replaced.
      corpus: What is in the archive.

    Returns:
      The folder of the data set.

    Raises:
      ArchiveError: if a file is missing or has a fault, a modality has the name of another field, or the folder cannot
        be written.
    """
    check_modality_names(corpus.modalities)
    path = dataset_path(builder_class, archive, data_dir)
    config = CorpusConfig(
        name=config_name(archive),
        description=builder_class.DESCRIPTION,
        archive=archive,
        shapes=shapes_of(corpus),
        dtypes={name: str(features.dtype) for name, features in corpus.features.items()},
        class_names=corpus.class_names,
        record=read_details(details_path(archive)).record,
    )
    try:
        shutil.rmtree(path, ignore_errors=True)
        with quiet_tfds():
            builder = builder_class(config=config, data_dir=data_dir, file_format="array_record")
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be written ({error}); choose another --tfds-dir") from error
    return path


def read_dataset(path: Path) -> tuple[Corpus, Details]:
    """The corpus and its details from the folder of a prepared data set, exactly as they were written.

    Raises:
      ArchiveError: if the folder holds no data set of this kind, or a file of it is damaged.
    """
    try:
        with quiet_tfds():
            builder = tfds.builder_from_directory(path)
            source = builder.as_data_source(split=SPLIT)
            examples = [source[row] for row in range(len(source))]
        metadata = builder.info.metadata
        # The label's own names come from a file with one name per line, without spaces at the ends.
        class_names = tuple(metadata.get("class_names") or builder.info.features["label"].names)
        corpus, details = _from_examples(examples, list(metadata["modalities"]), class_names, metadata["record"])
    except Exception as error:  # tfds and array_record raise many types
        raise ArchiveError(f"{path}: is no data set of this project or is damaged; write it again") from error
    check_corpus(corpus, str(path))
    return corpus, details


def export(data_set: DataSet, out: Out, force: Flag = False) -> None:
    """Writes the archive and its details file back from a prepared tfds data set.

    Args:
      data_set: Folder of the data set, down to the version: .../iemocap/NAME/1.0.0.
      out: The archive to write.
      force: Replaces an archive and details file that are there.
    """
    check_out(out, force=force)
    corpus, details = read_dataset(data_set)
    write_archive(out, corpus)
    write_details(details_path(out), details, sha256(out))
    print(f"wrote {out} and {details_path(out)}: {len(corpus)} utterances")


def _from_examples(
    examples: Sequence[dict[str, Any]], modalities: Sequence[str], class_names: tuple[str, ...], record: dict
) -> tuple[Corpus, Details]:
    text = lambda key: np.array([example[key].decode() for example in examples], str)
    sequences = [name for name in modalities if examples[0][name].ndim == 2]
    split = text("split")
    # Data sets that were written before there were targets have no such field.
    target = np.array([example.get("target", np.nan) for example in examples], np.float32)
    corpus = Corpus(
        utterance_id=text("utterance_id"),
        speaker=text("speaker"),
        session=text("session"),
        label=np.array([example["label"] for example in examples], np.int32),
        class_names=class_names,
        features={
            name: (np.concatenate if name in sequences else np.stack)([example[name] for example in examples])
            for name in modalities
        },
        length={name: np.array([len(example[name]) for example in examples], np.int32) for name in sequences},
        present=np.array([[bool(example[f"{name}_present"]) for name in modalities] for example in examples]),
        split=split if np.any(split != "") else None,
        target=None if np.isnan(target).all() else target,
    )
    numbers = {key: np.array([example[key] for example in examples], np.float32) for key in NUMBERS}
    rows = [json.loads(example[EXTRA]) for example in examples]
    extra = {key: np.array([row[key] for row in rows], str) for key in rows[0]}
    record = json.loads(json.dumps(record))
    return corpus, Details(
        corpus.utterance_id, **{key: text(key) for key in TEXT}, **numbers, record=record, extra=extra
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(export, argv, prog="python -m data_prep.tfds_corpus")


if __name__ == "__main__":
    sys.exit(main())
