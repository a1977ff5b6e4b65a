"""Published scores on IEMOCAP, four classes, with the features and folds of the MMIN family; per cent.

They stand apart from our rows: they were not measured here, and are never averaged or compared with ours. What a source
does not give stays empty. For MSP-IMPROV no table of the six conditions could be found, and none of CM-ARR itself.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

WIDTHS = [130, 342, 1024]  # of MMIN's audio, video and text
CONDITIONS = ("a", "v", "t", "av", "at", "vt", "average", "avt")


class Published(NamedTuple):
    """One published row.

    Attributes:
      method: As its paper calls it.
      metric: `war` or `uar`.
      scores: By `CONDITIONS`; None where the source gives none.
      source: Where the numbers were read.
    """

    method: str
    metric: str
    scores: tuple[float | None, ...]
    source: str


MPLMM = "as quoted in MPLMM (arXiv 2407.05374), Table 1"
PRIMD = "as quoted in PriMD (2026), Table 1"
RERUN = "an independent re-run in a public student repository, means over the sexes by us"
IEMOCAP = (
    Published("MCTN", "uar", (51.62, 45.73, 63.78, 55.84, 69.46, 68.34, 59.19, None), MPLMM),
    Published("MMIN", "uar", (59.00, 51.60, 68.02, 65.43, 75.14, 73.61, 65.47, None), MPLMM),
    Published("CIF-MMIN", "uar", (60.06, 51.56, 68.99, 63.53, 72.59, 69.91, 64.44, None), PRIMD),
    Published("IF-MMIN, re-run", "uar", (56.4, 51.1, 66.4, 65.1, 74.2, 72.0, 64.2, 77.2), RERUN),
    Published("MMIN", "war", (56.58, 52.52, 66.57, 63.99, 72.94, 71.67, 64.05, None), PRIMD),
    Published("CIF-MMIN", "war", (57.53, 53.46, 67.22, 64.99, 74.19, 72.40, 64.97, None), PRIMD),
)


def published_rows(config: Mapping[str, Any], num_classes: int, conditions: tuple[str, ...]) -> tuple[Published, ...]:
    """The published rows that belong beside a table, if there are any.

    They belong beside IEMOCAP with four classes, ten folds, and the features of MMIN, which are told by their widths:
    numbers of other features or folds cannot be compared.

    Args:
      config: Of the table.
      num_classes: Of the table.
      conditions: Of the table, with the average.
    """
    data = config["data"]
    is_iemocap = data["name"].lower().startswith("iemocap") and num_classes == 4
    is_protocol = data.get("widths") == WIDTHS and len(config["folds"]) == 10
    return IEMOCAP if is_iemocap and is_protocol and conditions == CONDITIONS else ()
