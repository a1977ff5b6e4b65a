"""Scores of exact rules, where the data set knows the formula that its utterances were drawn from."""

import contextlib
from pathlib import Path

from cmarr_jax.data.folds import FoldSplit
from experiments.datasets import Source
from experiments.report.scores import BAYES_UAR, BAYES_WAR, PRODUCT_UAR, PRODUCT_WAR
from experiments.units import Unit, is_finished, write_counts


def write_ceiling(folder: Path, source: Source, folds: list[FoldSplit]) -> None:
    """Scores exact rules on the test utterances of each fold, where the data set knows them, unless they are there.

    Bayes' rule, and the product rule on exact posteriors of single modalities. Each metric has its own best decision,
    hence two rows of each: the most probable class for WAR, the likeliest class for UAR.
    """
    if source.oracle is None:
        return
    from data_prep.synthetic.posterior import oracle_counts, product_rule

    bayes, log_prior = source.oracle
    product = product_rule(bayes, len(source.corpus.modalities))
    for name, log_likelihood, prior in (
        (BAYES_WAR, bayes, log_prior),
        (BAYES_UAR, bayes, None),
        (PRODUCT_WAR, product, log_prior),
        (PRODUCT_UAR, product, None),
    ):
        for fold in folds:
            unit = Unit(name, fold.name, 0)
            if not is_finished(folder, unit):
                counts = oracle_counts(source.corpus.label[fold.test], log_likelihood[fold.test], prior)
                with contextlib.suppress(FileExistsError):  # another command has just written it
                    write_counts(folder, unit, source.corpus.modalities, counts)
