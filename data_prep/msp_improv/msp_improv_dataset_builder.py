"""MSP-IMPROV as a tfds data set: features of its utterances, written and read as array_record."""

from data_prep.tfds_corpus import CorpusBuilder

HOW_TO_GET = (
    "MSP-IMPROV is given out under licence: ask for it at https://ecs.utdallas.edu/research/researchlabs/msp-lab/"
    "MSP-Improv.html and unpack it as MSP-IMPROV, then run python -m data_prep.msp_improv MSP-IMPROV msp_improv.npz"
)


class Builder(CorpusBuilder):
    """Reads `msp_improv.npz` and `msp_improv_details.npz`, which `python -m data_prep.msp_improv` writes."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"{HOW_TO_GET}; put msp_improv.npz and msp_improv_details.npz into the manual folder of tfds "
        "(by default ~/tensorflow_datasets/downloads/manual)"
    )
    HOMEPAGE = "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html"
    LICENSE = (
        "Licensed by the Multimodal Signal Processing laboratory of the University of Texas at Dallas for research; "
        "the licence goes with the corpus, features and transcripts fall under it. Do not publish this data set."
    )
    DESCRIPTION = (
        "MSP-IMPROV: twelve actors in six sessions of two improvise scenes. One example is one utterance with the "
        "features of its sound, the speaker's face and its words, the majority label, mean ratings and the transcript."
    )
    CITATION = """\
@article{busso2017mspimprov,
  title = {{MSP-IMPROV}: An Acted Corpus of Dyadic Interactions to Study Emotion Perception},
  author = {Busso, Carlos and Parthasarathy, Srinivas and Burmania, Alec and AbdelWahab, Mohammed and Sadoughi, Najmeh
            and Provost, Emily Mower},
  journal = {IEEE Transactions on Affective Computing},
  volume = {8},
  number = {1},
  pages = {67--80},
  year = {2017}
}
"""
