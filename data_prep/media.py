"""One utterance of a raw corpus as the extractors see it."""

import dataclasses
from pathlib import Path
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Media:
    """Where the sound, the picture and the words of one utterance are.

    Attributes:
      utterance_id: Name in the corpus.
      audio: Sound file of this utterance alone; `None` if there is none.
      video: Video file; `None` if there is none.
      start: Second of `video` where the utterance starts; `None`: at its beginning.
      end: Second of `video` where it ends; `None`: at its end.
      half: Half of the picture that shows the speaker, in pictures of two people; `None`: all of it.
      text: What is said; `None` if it is not known.
    """

    utterance_id: str
    audio: Path | None = None
    video: Path | None = None
    start: float | None = None
    end: float | None = None
    half: Literal["left", "right"] | None = None
    text: str | None = None
