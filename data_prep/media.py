"""Sound, video and transcript of one utterance: the input of the extractors."""

import dataclasses
from pathlib import Path
from typing import Literal

VIDEOS = (".avi", ".mp4", ".mov", ".mkv", ".webm", ".m4v")  # of a corpus; the first one that is there is taken


@dataclasses.dataclass(frozen=True)
class Media:
    """Files of sound and video, and transcript, of one utterance.

    Attributes:
      utterance_id: Name in the corpus.
      audio: Sound file, or a video whose sound track it is; of this utterance alone unless `audio_start` or `audio_end`
        is given; `None` if there is none.
      video: Video file; `None` if there is none.
      start: Second of `video` where the utterance starts; `None`: at its beginning.
      end: Second of `video` where it ends; `None`: at its end.
      half: Half of the picture with the speaker, if the video shows two people side by side; `None`: the whole picture.
      text: Transcript; `None` if there is none.
      audio_start: Second of `audio` where the utterance starts; `None`: at its beginning.
      audio_end: Second of `audio` where it ends; `None`: at its end.
    """

    utterance_id: str
    audio: Path | None = None
    video: Path | None = None
    start: float | None = None
    end: float | None = None
    half: Literal["left", "right"] | None = None
    text: str | None = None
    audio_start: float | None = None
    audio_end: float | None = None

    @property
    def span(self) -> tuple[float | None, float | None]:
        """Start and end of the utterance in its recording: those in the video, else those in the sound."""
        is_cut = self.start is not None or self.end is not None
        return (self.start, self.end) if is_cut else (self.audio_start, self.audio_end)
