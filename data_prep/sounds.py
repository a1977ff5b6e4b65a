"""Checks the sound files of a raw corpus before features are extracted: broken ones are treated as missing."""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape

from cmarr_jax.data.corpus import ArchiveError
from data_prep.extractors.base import MediaError
from data_prep.extractors.sound_file import read_header
from data_prep.extractors.sound_track import Header, check_length, check_times
from data_prep.media import Media
from data_prep.utterances import Utterance, print_missing

MIN_SECONDS = 0.1  # a shorter sound is treated as missing


class Checked(NamedTuple):
    """What was found in the headers of the sound files.

    Attributes:
      utterances: All of them; one whose sound is broken has none.
      problems: By utterance id, what is wrong with such a sound.
      seconds: By utterance id, the length of its sound file, where the header says it.
    """

    utterances: list[Utterance]
    problems: dict[str, str]
    seconds: dict[str, float]


def check_sounds(utterances: Sequence[Utterance], console: Console) -> Checked:
    """Reads the headers of the sound files. Broken ones are reported and treated as missing; formats are counted.

    Utterances that have a video and no sound are counted, too: its sound track may have been forgotten.

    Raises:
      ArchiveError: if the package that reads them is not installed.
    """
    kinds = collections.Counter[str]()
    headers: dict[Path, Header | str] = {}
    result, problems, seconds = [], dict[str, str](), dict[str, float]()
    silent = [item.media.utterance_id for item in utterances if item.media.audio is None and item.media.video]
    for item in utterances:
        if item.media.audio is not None:
            header = _read_once(item.media.audio, headers)
            problem = header if isinstance(header, str) else _problem(item.media, item.media.audio, header)
            if problem:
                problems[item.media.utterance_id] = problem
                item = dataclasses.replace(item, media=dataclasses.replace(item.media, audio=None))
            elif isinstance(header, Header):
                channels = "mono" if header.channels == 1 else f"with {header.channels} channels"
                kinds[f"{header.rate} Hz {channels}"] += 1
                if header.seconds is not None:
                    seconds[item.media.utterance_id] = header.seconds
        result.append(item)
    print_missing("audio", problems, console)
    console.print(f"sounds: {', '.join(f'{count} of {kind}' for kind, count in kinds.most_common()) or 'none'}")
    if silent:
        text = f"{len(silent)} of {len(utterances)} utterances have no sound, though they have a video"
        advice = "where the column audio of a manifest names the video, its sound track is read"
        console.print(escape(f"note: {text} ({min(silent)!r} first); {advice}"))
    if len(kinds) > 1:
        console.print(
            "[yellow]warning:[/yellow] the sounds are of several kinds; all are brought to the extractor's rate"
        )
    return Checked(result, problems, seconds)


def _read_once(path: Path, headers: dict[Path, Header | str]) -> Header | str:
    """The header of a file, or what is wrong with it; many utterances may be in one file."""
    if path not in headers:
        try:
            headers[path] = read_header(path)
        except MediaError as error:
            headers[path] = str(error)
        except ImportError as error:
            raise ArchiveError(f"--audio: {error}") from error
    return headers[path]


def _problem(media: Media, path: Path, header: Header) -> str:
    """What is wrong with the utterance's part of its sound file; empty if nothing is."""
    start, end = media.audio_start or 0.0, media.audio_end
    if header.seconds is None and end is None:
        return ""
    stop = min(time for time in (header.seconds, end) if time is not None)
    try:
        check_times(path, start, end)
        check_length(path, max(0.0, stop - start), start, end)
    except MediaError as error:
        return str(error)
    if stop - start >= MIN_SECONDS:
        return ""
    what = "is" if media.audio_start is None and end is None else "the utterance is"
    return f"{path}: {what} {stop - start:.3f} s long, shorter than {MIN_SECONDS} s"
