"""Parses utterance names of IEMOCAP and MSP-IMPROV into speaker, session, dialogue, sex and condition."""

import re
from typing import NamedTuple

from cmarr_jax.data.corpus import ArchiveError

_IEMOCAP = re.compile(r"(Ses(\d\d)[FM]_\w+)_([FM])\d{3}")
# Sentence and intended emotion, speaker, condition, two sexes, number of the turn. That the second field is the speaker
# is taken from the MMIN family's lists; what the two sexes mean was not verified with a copy of the corpus.
_MSP_IMPROV = re.compile(r"(?:MSP-IMPROV-|UTD-IMPROV-)?(S\d\d[AHNS])-([FM])(\d\d)-([PRST])-[FM]{2}\d\d\w?")


class Name(NamedTuple):
    """The parts of an utterance name.

    Attributes:
      corpus: `iemocap` or `msp_improv`.
      speaker: Session and sex, as in `01F`.
      session: Recording session, two digits.
      dialogue: The conversation that the utterance is from.
      sex: `F` or `M`.
      condition: MSP-IMPROV only: P (between the scenes), R (target sentence read), S (improvised), T (target sentence
        within the improvisation); empty for IEMOCAP. The meaning of the letters is from knowledge of the corpus.
    """

    corpus: str
    speaker: str
    session: str
    dialogue: str
    sex: str
    condition: str


def parse_name(utterance_id: str, source: str) -> Name:
    """Parses an utterance name. A name that passes has letters, digits, `_` and `-` only, so it is safe in a path.

    Raises:
      ArchiveError: if it is a name of neither corpus; the message starts with `source`.
    """
    if match := _IEMOCAP.fullmatch(utterance_id):
        dialogue, session, sex = match.groups()
        return Name("iemocap", session + sex, session, dialogue, sex, "")
    if match := _MSP_IMPROV.fullmatch(utterance_id):
        scene, sex, session, condition = match.groups()
        return Name("msp_improv", session + sex, session, f"session{int(session)}-{scene}", sex, condition)
    raise ArchiveError(
        f"{source}: {utterance_id!r} is no utterance name of IEMOCAP (Ses01F_impro01_F000) or MSP-IMPROV "
        "(MSP-IMPROV-S01A-F01-S-FM01); correct the name or leave the utterance out"
    )
