"""Known numbers of utterances per speaker and class, from the literature, to compare a converted corpus with."""

import itertools
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from cmarr_jax.data.corpus import ArchiveError

CLASS_NAMES = ("angry", "happy", "neutral", "sad")  # also the order of the published label files

# IEMOCAP: happy with excited. MSP-IMPROV: the improvised turns, condition S.
IEMOCAP: Mapping[str, tuple[int, ...]] = {
    "01F": (147, 132, 171, 78),
    "01M": (82, 146, 213, 116),
    "02F": (67, 166, 135, 113),
    "02M": (70, 161, 227, 84),
    "03F": (92, 128, 130, 172),
    "03M": (148, 158, 190, 133),
    "04F": (205, 185, 76, 62),
    "04M": (122, 118, 182, 81),
    "05F": (78, 159, 221, 132),
    "05M": (92, 283, 163, 113),
}
MSP_IMPROV: Mapping[str, tuple[int, ...]] = {
    "01F": (28, 64, 76, 47),
    "01M": (26, 28, 128, 29),
    "02F": (31, 102, 134, 45),
    "02M": (23, 60, 150, 33),
    "03F": (62, 76, 149, 50),
    "03M": (11, 67, 260, 23),
    "04F": (27, 82, 81, 44),
    "04M": (25, 58, 88, 32),
    "05F": (67, 142, 144, 51),
    "05M": (52, 96, 165, 58),
    "06F": (53, 65, 187, 120),
    "06M": (55, 159, 171, 95),
}
# All utterances of the four classes in condition S: Busso et al., MSP-IMPROV, TAFFC 2017, table 4. The table above, of
# the MMIN family, has 121 fewer: of each class as many as there are clips in which it found no face.
RELEASE: Mapping[str, tuple[int, ...]] = {"msp_improv": (470, 1048, 1789, 633)}
KNOWN: Mapping[str, Mapping[str, tuple[int, ...]]] = {"iemocap": IEMOCAP, "msp_improv": MSP_IMPROV}
# Clips per class in which the MMIN family found no face: in its files, their video is zeros only.
NO_FACE: Mapping[str, tuple[int, ...]] = {"msp_improv": (10, 49, 56, 6)}


def count(speaker: Sequence[str], label: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Utterances per speaker of the four classes; excited counts as happy, other labels are not counted."""
    merged = ["happy" if name == "excited" else name for name in label]
    pairs = list(zip(speaker, merged, strict=True))
    return {
        name: tuple(sum(pair == (name, emotion) for pair in pairs) for emotion in CLASS_NAMES)
        for name in sorted(set(speaker))
    }


def check_counts(
    corpus: str, found: Mapping[str, tuple[int, ...]], *, source: str, allow: bool, console: Console
) -> bool:
    """Prints found and known numbers per speaker and class.

    Args:
      corpus: `iemocap` or `msp_improv`.
      found: Result of `count`.
      source: File or folder with which the message starts.
      allow: Whether a difference is printed as a warning instead of raised.
      console: Console to print to.

    Returns:
      Whether they are equal, or those of the release.

    Raises:
      ArchiveError: with the differing rows, unless `allow`.
    """
    known, zero = KNOWN[corpus], (0,) * len(CLASS_NAMES)
    names = sorted({*known, *found})
    rows = {name: (found.get(name, zero), known.get(name, zero)) for name in names}
    console.print(_table(rows))
    different = [
        f"{name} {' '.join(map(str, here))} where {' '.join(map(str, there))} is known"
        for name, (here, there) in rows.items()
        if here != there
    ]
    if not different:
        console.print("The counts are the known ones.")
        return True
    lacks_none = all(here >= there for row in rows.values() for here, there in zip(*row, strict=True))
    if _by_class(found.values()) == RELEASE.get(corpus) and lacks_none:
        more = sum(map(sum, found.values())) - sum(map(sum, known.values()))
        console.print(f"The counts per class are those of the release, {more} more than the files of the MMIN family.")
        return True
    text = f"utterances per speaker ({', '.join(CLASS_NAMES)}) differ from the known ones: {'; '.join(different)}"
    if not allow:
        raise ArchiveError(f"{source}: {text}; give --allow-count-differences to go on")
    console.print(f"[yellow]warning:[/yellow] {text}", soft_wrap=True)
    return False


def likely_orders(
    found: Mapping[str, tuple[int, ...]], corpus: str, class_names: tuple[str, ...]
) -> list[tuple[str, ...]]:
    """Orders of the class names that the counts speak for, of all 24.

    In a part of a corpus, no speaker has more utterances of a class than are known. So an order is rated by its
    surplus: the number of utterances beyond the known counts. Orders with at most twice the least surplus are likely.

    Args:
      found: Result of `count`, with the labels named by `class_names`.
      corpus: `iemocap` or `msp_improv`.
      class_names: `CLASS_NAMES` in the order of the labels, as given.

    Returns:
      `class_names` alone if it is the only likely order; nothing if it is one of several; else the likely ones. Labels
      that no utterance has tell nothing: orders that differ in them only are the same if `class_names` is likely.
    """
    pairs = [(row, KNOWN[corpus][speaker]) for speaker, row in found.items() if speaker in KNOWN[corpus]]
    column = [CLASS_NAMES.index(name) for name in class_names]
    used = [label for label, given in enumerate(column) if any(row[given] for row, _ in pairs)]
    surplus = {
        order: sum(
            max(0, row[column[label]] - known[CLASS_NAMES.index(order[label])])
            for row, known in pairs
            for label in used
        )
        for order in itertools.permutations(CLASS_NAMES)
    }
    likely = [order for order, number in surplus.items() if number <= 2 * min(surplus.values())]
    if class_names not in likely:
        return likely
    others = [order for order in likely if any(order[label] != class_names[label] for label in used)]
    return [] if others else [class_names]


def _by_class(rows: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """The sum over the speakers."""
    return tuple(map(sum, zip(*rows, strict=True)))


def _table(rows: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> Table:
    table = Table(title="Utterances per speaker and class: found / known", title_justify="left", box=box.SIMPLE)
    table.add_column("speaker", no_wrap=True)
    for name in (*CLASS_NAMES, "all", ""):
        table.add_column(name, justify="right")
    for name, (here, there) in rows.items():
        table.add_row(*_cells(name, here, there))
    table.add_section()
    table.add_row(
        *_cells(
            f"all {len(rows)}",
            *(_by_class(column) for column in zip(*rows.values(), strict=True)),
        )
    )
    return table


def _cells(name: str, here: tuple[int, ...], there: tuple[int, ...]) -> list[str]:
    pairs = zip((*here, sum(here)), (*there, sum(there)), strict=True)
    return [name, *(f"{mine} / {known}" for mine, known in pairs), "" if here == there else "differs"]
