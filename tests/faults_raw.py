"""Faults in the raw releases of IEMOCAP and MSP-IMPROV, and in their tfds data sets."""

from pathlib import Path

from tests import miniature
from tests.fault_case import Case
from tests.faulty_files import (
    copy_folder,
    copy_wav,
    cut_records,
    deeper,
    move,
    nothing,
    raw,
    remove,
    replace,
    stereo,
    tfds_folder,
    write,
)

EVALUATION = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
HUMAN = "Human_transcriptions/All_human_transcriptions"
WAV = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F001.wav"
LINE = "\tang\t[2.0000, 3.5000, 3.0000]"


def two_releases(folder: Path) -> list[str]:
    """A folder that holds the release twice, and the command line that reads it."""
    for name in ("first", "second"):
        miniature.iemocap(folder / name, with_media=False)
    return [str(folder), str(folder / "out.npz")]


CASES = (
    Case(
        "IEMOCAP: not the release",
        "iemocap.__main__",
        lambda folder: [str(folder), str(folder / "o.npz")],
    ),
    Case(
        "IEMOCAP: an evaluation line that is cut",
        "iemocap.__main__",
        raw(miniature.iemocap, replace(EVALUATION, LINE, "\tang")),
    ),
    Case(
        "IEMOCAP: an unknown label",
        "iemocap.__main__",
        raw(miniature.iemocap, replace(EVALUATION, "\tang\t", "\tjoy\t")),
    ),
    Case(
        "IEMOCAP: an utterance ends before it starts",
        "iemocap.__main__",
        raw(miniature.iemocap, replace(EVALUATION, "[1.0000", "[90.0000")),
    ),
    Case(
        "IEMOCAP: an utterance twice",
        "iemocap.__main__",
        raw(miniature.iemocap, replace(EVALUATION, "_M000\t", "_F000\t")),
    ),
    Case(
        "IEMOCAP: an utterance of another dialogue",
        "iemocap.__main__",
        raw(miniature.iemocap, replace(EVALUATION, "Ses01F_impro01_F000", "Ses01F_impro02_F000")),
    ),
    Case(
        "IEMOCAP: an evaluation file of zero bytes",
        "iemocap.__main__",
        raw(miniature.iemocap, write(EVALUATION, b"\0" * 64)),
    ),
    Case(
        "IEMOCAP: no transcripts",
        "iemocap.__main__",
        raw(miniature.iemocap, remove("Session1/dialog/transcriptions")),
        "note: {folder}/IEMOCAP_full_release/Session1/dialog/transcriptions:",
    ),
    Case(
        "IEMOCAP: a transcript file that is no text",
        "iemocap.__main__",
        raw(miniature.iemocap, write("Session2/dialog/transcriptions/Ses02F_impro01.txt", b"\0\1")),
        "note: transcripts taken as missing",
    ),
    Case("IEMOCAP: no such folder", "iemocap.__main__", lambda folder: [f"{folder}/no", f"{folder}/o.npz"]),
    Case(
        "IEMOCAP: unpacked one folder deeper",
        "iemocap.__main__",
        raw(miniature.iemocap, deeper),
        "note: {folder}/IEMOCAP_full_release: the",
    ),
    Case(
        "IEMOCAP: the release twice",
        "iemocap.__main__",
        two_releases,
    ),
    Case(
        "IEMOCAP: a copy of a session",
        "iemocap.__main__",
        raw(miniature.iemocap, copy_folder("Session3", "Session3 copy")),
        "note: {folder}/IEMOCAP_full_release: folders",
    ),
    Case(
        "IEMOCAP: missing transcript lines",
        "iemocap.__main__",
        raw(miniature.iemocap, nothing),
        "note: utterances without a transcript",
    ),
    Case(
        "IEMOCAP: byte-order mark, CRLF, a Mac's ._ file",
        "iemocap.__main__",
        raw(miniature.iemocap, nothing),
        "72 utterances",
    ),
    Case(
        "IEMOCAP: a video is missing",
        "iemocap.__main__",
        raw(miniature.iemocap, nothing, media=True),
        "note: utterances without a video",
    ),
    Case(
        "IEMOCAP: an empty wav",
        "iemocap.__main__",
        raw(miniature.iemocap, nothing, media=True),
        "audio of Ses01F_impro01_M000",
    ),
    Case(
        "IEMOCAP: a wav that is too short",
        "iemocap.__main__",
        raw(miniature.iemocap, nothing, media=True),
        "audio of Ses01F_impro01_F000",
    ),
    Case(
        "IEMOCAP: a wav that is none",
        "iemocap.__main__",
        raw(miniature.iemocap, write(WAV, b"not a sound"), media=True),
        "audio of Ses01F_impro01_F001",
    ),
    Case(
        "IEMOCAP: a stereo wav of another sample rate",
        "iemocap.__main__",
        raw(miniature.iemocap, stereo, media=True),
        "sounds:",
    ),
    Case("one modality only", "iemocap.__main__", raw(miniature.iemocap, nothing, text="none")),
    Case(
        "an extractor written wrongly",
        "iemocap.__main__",
        raw(miniature.iemocap, nothing, text="text_transformer:weights"),
    ),
    Case(
        "MSP-IMPROV: not the corpus",
        "msp_improv.__main__",
        lambda folder: [str(folder), str(folder / "o.npz")],
    ),
    Case(
        "MSP-IMPROV: an evaluation line that is cut",
        "msp_improv.__main__",
        raw(miniature.msp_improv, replace("Evalution.txt", " V:1.000000;", "")),
    ),
    Case(
        "MSP-IMPROV: an unknown label",
        "msp_improv.__main__",
        raw(miniature.msp_improv, replace("Evalution.txt", "; A; A:", "; Q; A:")),
    ),
    Case(
        "MSP-IMPROV: an utterance twice",
        "msp_improv.__main__",
        raw(miniature.msp_improv, replace("Evalution.txt", "S01H-F01-S-MF01", "S01A-F01-S-MF00")),
    ),
    Case("MSP-IMPROV: two files of one name", "msp_improv.__main__", raw(miniature.msp_improv, copy_wav, media=True)),
    Case(
        "MSP-IMPROV: a transcript that is no text",
        "msp_improv.__main__",
        raw(miniature.msp_improv, write(f"{HUMAN}/MSP-IMPROV-S01A-F01-S-MF00.txt", b"\0\1")),
        "note: transcript taken",
    ),
    Case(
        "MSP-IMPROV: transcripts in a folder of another name",
        "msp_improv.__main__",
        raw(miniature.msp_improv, move(HUMAN, "Transcripts")),
        "note: {folder}/MSP-IMPROV: transcripts",
    ),
    Case(
        "MSP-IMPROV: videos in two forms",
        "msp_improv.__main__",
        raw(miniature.msp_improv, write("session1/S01A/S/MSP-IMPROV-S01A-F01-S-MF00.mp4", b"x"), media=True),
        "note: videos",
    ),
    Case(
        "MSP-IMPROV: another condition than S",
        "msp_improv.__main__",
        raw(miniature.msp_improv, nothing),
        "note: {folder}/MSP-IMPROV/Evalution.txt",
    ),
    Case("tfds: no data set in the folder", "tfds_corpus", lambda folder: [str(folder), str(folder / "out.npz")]),
    Case("tfds: truncated records", "tfds_corpus", tfds_folder(cut_records)),
)
