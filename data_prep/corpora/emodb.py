"""EmoDB, the Berlin database of emotional speech: names as `03a01Fa.wav`, of speaker, sentence, emotion and version.

    python -m data_prep.corpora.emodb emodb emodb.csv

Burkhardt et al., A Database of German Emotional Speech, Interspeech 2005. Free to download from
<http://emodb.bilderbar.info/>; the site names no licence, only the paper to cite.

The emotion is the first letter of its German name. The second modality is the sentence, one of ten that are the same
for all emotions: it says little of the emotion.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from cmarr_jax.data.corpus import ArchiveError
from data_prep.convert import Flag, check_new, run_command
from data_prep.corpora import common
from data_prep.manifest_table import relative_path

_NAME = re.compile(r"(\d\d)([ab]\d\d)([WLEAFTN])([a-z]?)")
EMOTIONS = {
    "W": "angry",  # Wut
    "L": "bored",  # Langeweile
    "E": "disgust",  # Ekel
    "A": "fear",  # Angst
    "F": "happy",  # Freude
    "T": "sad",  # Trauer
    "N": "neutral",
}
KNOWN = {"angry": 127, "bored": 81, "disgust": 46, "fear": 69, "happy": 71, "neutral": 79, "sad": 62}
SEXES = {"03": "M", "08": "F", "09": "F", "10": "M", "11": "M", "12": "M", "13": "F", "14": "F", "15": "M", "16": "F"}
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute Abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}


def convert(
    folder: common.Folder,
    manifest: common.Manifest,
    force: Flag = False,
    allow_count_differences: common.Allow = False,
) -> None:
    """Writes the manifest of the 535 clips of EmoDB (10 speakers, 7 emotions).

    There is no official split. With ten folds each speaker is the test part once: give --folds 10 to experiments.

    Args:
      folder: Folder with the wav files, or one above it.
      manifest: The manifest to write.
      force: Replaces a manifest that is there.
      allow_count_differences: Goes on if the counts are not the known ones.
    """
    check_new(manifest, force=force)
    files = common.find_files(folder, common.SOUNDS)
    sounds = {name: path for name, path in files.items() if _NAME.fullmatch(name)}
    common.note("files with other names, left out", sorted(files.keys() - sounds.keys()))
    if not sounds:
        raise ArchiveError(f"{folder}: holds no sound like 03a01Fa.wav; give the unpacked EmoDB")
    rows = [_row(manifest, sounds[name]) for name in sorted(sounds)]
    common.check_counts(folder, (str(row["label"]) for row in rows), KNOWN, allow=allow_count_differences)
    common.finish(manifest, rows, common.default_extractors(audio=True, video=False, text=True))


def _row(manifest: Path, path: Path) -> dict[str, object]:
    speaker, sentence, emotion = path.stem[:2], path.stem[2:5], path.stem[5]
    if speaker not in SEXES or sentence not in SENTENCES:
        raise ArchiveError(f"{path}: names the speaker {speaker} and the sentence {sentence}; check the file name")
    return {
        "utterance_id": path.stem,
        "speaker": speaker,
        "label": EMOTIONS[emotion],
        "audio": relative_path(path, manifest.parent),
        "text": SENTENCES[sentence],
        "sex": SEXES[speaker],
        "sentence": sentence,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.corpora.emodb")


if __name__ == "__main__":
    sys.exit(main())
