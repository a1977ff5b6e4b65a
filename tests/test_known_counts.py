"""The order of the labels, told by the counts per speaker and class."""

import io
import itertools

import numpy as np
import pytest
from rich.console import Console

from cmarr_jax.data.corpus import ArchiveError
from data_prep.known_counts import CLASS_NAMES, KNOWN, NO_FACE, RELEASE, check_counts, likely_orders

ORDERS = list(itertools.permutations(CLASS_NAMES))


def counted(corpus, order, given, keep=lambda count: count, speakers=None, classes=CLASS_NAMES):
    """What `count` finds if labels in `order` are named in the order `given`."""
    name_of = dict(zip(order, given, strict=True))
    found = {}
    for speaker in speakers or KNOWN[corpus]:
        row = dict(zip(CLASS_NAMES, KNOWN[corpus][speaker], strict=True))
        kept = {name_of[name]: int(keep(number)) if name in classes else 0 for name, number in row.items()}
        found[speaker] = tuple(kept[name] for name in CLASS_NAMES)
    return found


@pytest.mark.parametrize("corpus", ["iemocap", "msp_improv"])
def test_every_order_is_told_by_all_counts(corpus):
    for order, given in itertools.product(ORDERS, ORDERS):
        assert likely_orders(counted(corpus, order, given), corpus, given) == [order]


@pytest.mark.parametrize("corpus", ["iemocap", "msp_improv"])
@pytest.mark.parametrize("order", ORDERS)
def test_an_order_is_told_by_a_part_of_the_corpus(corpus, order):
    rng = np.random.default_rng(0)
    tenth_missing = lambda number: rng.binomial(number, 0.9)
    assert likely_orders(counted(corpus, order, CLASS_NAMES, tenth_missing), corpus, CLASS_NAMES) == [order]
    one_session = counted(corpus, order, CLASS_NAMES, speakers=["02F", "02M"])
    assert likely_orders(one_session, corpus, CLASS_NAMES) == [order]
    one_class_cut = counted(corpus, order, CLASS_NAMES, lambda number: min(number, 150))
    assert likely_orders(one_class_cut, corpus, CLASS_NAMES) == [order]


def test_the_order_given_is_kept_if_labels_that_differ_are_not_used():
    found = counted("iemocap", CLASS_NAMES, CLASS_NAMES, classes=("angry", "happy"))
    assert likely_orders(found, "iemocap", CLASS_NAMES) == [CLASS_NAMES]


def test_counts_that_fit_several_orders_tell_all_of_them():
    order = ("neutral", "angry", "sad", "happy")
    found = counted("iemocap", order, CLASS_NAMES, classes=("angry", "happy"))
    assert likely_orders(found, "iemocap", CLASS_NAMES) == [order, ("sad", "angry", "neutral", "happy")]


@pytest.mark.parametrize("number", [2, 10_000])
def test_counts_that_fit_no_order_tell_nothing(number):
    found = dict.fromkeys(KNOWN["iemocap"], (number,) * 4)
    assert likely_orders(found, "iemocap", CLASS_NAMES) == []


def test_the_release_has_more_than_the_files_of_the_lineage():
    """Of each class as many more as have no face there, whichever speakers they are of."""
    known = KNOWN["msp_improv"]
    more = dict.fromkeys(known, (0, 0, 0, 0)) | {"03M": NO_FACE["msp_improv"]}
    whole = {name: tuple(map(sum, zip(row, more[name], strict=True))) for name, row in known.items()}
    assert tuple(map(sum, zip(*whole.values(), strict=True))) == RELEASE["msp_improv"]
    console = Console(file=io.StringIO(), width=200)
    assert check_counts("msp_improv", whole, source="x", allow=False, console=console)
    assert "The counts per class are those of the release, 121 more than the files" in console.file.getvalue()
    moved = whole | {"01F": (27, *whole["01F"][1:]), "01M": (27, *whole["01M"][1:])}  # one angry one of 01F is missing
    with pytest.raises(ArchiveError, match="01F 27 64 76 47 where 28 64 76 47 is known"):
        check_counts("msp_improv", moved, source="x", allow=False, console=console)
