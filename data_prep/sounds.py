"""Checks the sound files of a raw corpus before features are extracted: broken ones are treated as missing."""

import collections
import dataclasses
import wave
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from data_prep.utterances import Utterance

MIN_SECONDS = 0.1  # a shorter sound is treated as missing


def check_sounds(utterances: Sequence[Utterance], console: Console) -> list[Utterance]:
    """Reads the headers of the sound files. Broken ones are reported and treated as missing; formats are counted."""
    kinds = collections.Counter[str]()
    result = []
    for item in utterances:
        media = item.media
        problem, kind = ("", "") if media.audio is None else _sound(media.audio)
        if problem:
            console.print(escape(f"audio of {media.utterance_id} taken as missing: {media.audio}: {problem}"))
            item = dataclasses.replace(item, media=dataclasses.replace(media, audio=None))
        elif kind:
            kinds[kind] += 1
        result.append(item)
    console.print(f"sounds: {', '.join(f'{count} of {kind}' for kind, count in kinds.most_common()) or 'none'}")
    if len(kinds) > 1:
        console.print(
            "[yellow]warning:[/yellow] the sounds are of several kinds; all are brought to the extractor's rate"
        )
    return result


def _sound(path: Path) -> tuple[str, str]:
    """Problem and format of a sound file; one of them is empty."""
    try:
        with wave.open(str(path), "rb") as file:
            channels, rate, count = file.getnchannels(), file.getframerate(), file.getnframes()
    except (wave.Error, EOFError, OSError) as error:
        if "unknown format" in str(error):
            return "", "another format than PCM"
        return ("is an empty file" if path.stat().st_size == 0 else "is no wav file"), ""
    if count < MIN_SECONDS * rate:
        return f"is {count / rate:.3f} s long, shorter than {MIN_SECONDS} s", ""
    return "", f"{rate} Hz {'mono' if channels == 1 else f'with {channels} channels'}"
