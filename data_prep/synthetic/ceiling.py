"""Prints the exact ceilings of the synthetic corpora: `python -m data_prep.synthetic.ceiling [--hard]`.

First on many draws of all ten speakers, for the easy set the height that `generative.py` was tuned to, then on the
corpora of seed 0. Bayes' rule by the most probable or the likeliest class, and the product rule on exact posteriors of
single modalities (late fusion).
"""

import numpy as np
import tyro

from cmarr_jax.data.availability import condition_names
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.metrics import uar, war
from data_prep.synthetic import generative, posterior
from data_prep.synthetic.hard import FRAME_SCALE, make_hard_parameters

NARROW = {"audio": 36, "video": 66, "text": 126}  # widths change no ceiling, and draw faster


def main(hard: bool = False) -> None:
    """Prints a Markdown table in per cent, for all rules of decision.

    Args:
      hard: Of the hard set, whose sequences are as short as in its preset.
    """
    print(f"| utterances | score | decided by | {' | '.join(condition_names(generative.MODALITIES))} |")
    print("|---" * (3 + 7) + "|")
    if hard:
        narrow = make_hard_parameters(NARROW)
        draws = [generative.sample(narrow, seed=seed, repeats=5, frame_scale=FRAME_SCALE) for seed in range(1, 4)]
        _print_rows(draws, narrow)
        parameters = make_hard_parameters()
        _print_rows([generative.sample(parameters, frame_scale=FRAME_SCALE)], parameters)
        return
    parameters = generative.make_parameters()
    _print_rows([generative.sample(parameters, seed=seed, repeats=5) for seed in range(1, 9)], parameters)
    for scale in (1.0, 0.2):
        _print_rows([generative.sample(parameters, scale=scale)], parameters)


def _print_rows(corpora: list[Corpus], parameters: generative.Parameters) -> None:
    total = sum(len(corpus) for corpus in corpora)
    label = np.concatenate([corpus.label for corpus in corpora])
    bayes = np.concatenate([posterior.log_likelihood(corpus, parameters) for corpus in corpora])
    share = np.log(np.bincount(label) / total)
    product = posterior.product_rule(bayes, len(generative.MODALITIES))
    for rule, log_likelihood, log_prior in (
        ("posterior", bayes, share),
        ("likelihood", bayes, None),
        ("product of posteriors", product, share),
        ("product of likelihoods", product, None),
    ):
        counts = posterior.oracle_counts(label, log_likelihood, log_prior)
        for name, score in (("WAR", war), ("UAR", uar)):
            print(f"| {total} | {name} | {rule} | {' | '.join(f'{100 * value:.1f}' for value in score(counts))} |")


if __name__ == "__main__":
    tyro.cli(main)
