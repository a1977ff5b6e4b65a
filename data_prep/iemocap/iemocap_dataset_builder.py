"""IEMOCAP as a tfds data set: features of its utterances, written and read as array_record."""

from data_prep.tfds_corpus import CorpusBuilder

HOW_TO_GET = (
    "IEMOCAP is given out under licence: ask for it at https://sail.usc.edu/iemocap/ and unpack it as "
    "IEMOCAP_full_release, then run python -m data_prep.iemocap IEMOCAP_full_release iemocap.npz"
)


class Builder(CorpusBuilder):
    """Reads `iemocap.npz` and `iemocap_details.npz`, which `python -m data_prep.iemocap` writes (and this data set)."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"{HOW_TO_GET}; put iemocap.npz and iemocap_details.npz into the manual folder of tfds "
        "(by default ~/tensorflow_datasets/downloads/manual)"
    )
    HOMEPAGE = "https://sail.usc.edu/iemocap/"
    LICENSE = (
        "Licensed by the SAIL laboratory of the University of Southern California for research; the licence goes with "
        "the corpus, features and transcripts fall under it. Do not publish this data set."
    )
    DESCRIPTION = (
        "IEMOCAP (Interactive Emotional Dyadic Motion Capture): ten actors in five sessions of two play scripts and "
        "improvise. One example is one utterance with the features of its sound, the speaker's face and its words, "
        "the majority label, mean ratings and the transcript."
    )
    CITATION = """\
@article{busso2008iemocap,
  title = {{IEMOCAP}: interactive emotional dyadic motion capture database},
  author = {Busso, Carlos and Bulut, Murtaza and Lee, Chi-Chun and Kazemzadeh, Abe and Mower, Emily and Kim, Samuel and
            Chang, Jeannette N. and Lee, Sungbok and Narayanan, Shrikanth S.},
  journal = {Language Resources and Evaluation},
  volume = {42},
  pages = {335--359},
  year = {2008}
}
"""
