"""Faults in the raw releases of IEMOCAP and MSP-IMPROV, and in their tfds data sets."""

from tests import miniature
from tests.fault_case import Case
from tests.faulty_files import copy_wav, cut_records, nothing, raw, remove, replace, stereo, tfds_folder, write

EVALUATION = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
WAV = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F001.wav"
LINE = "\tang\t[2.0000, 3.5000, 3.0000]"

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
        "IEMOCAP: no transcripts", "iemocap.__main__", raw(miniature.iemocap, remove("Session1/dialog/transcriptions"))
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
    Case("MSP-IMPROV: another condition than S", "msp_improv.__main__", raw(miniature.msp_improv, nothing), "note:"),
    Case("tfds: no data set in the folder", "tfds_corpus", lambda folder: [str(folder), str(folder / "out.npz")]),
    Case("tfds: truncated records", "tfds_corpus", tfds_folder(cut_records)),
)
