"""Prints the Bayes ceiling of the synthetic corpus: `python -m data_prep.synthetic.ceiling`, about half a minute.

First on 40 draws of all ten speakers, where it is the height that `generative.py` was tuned to, then on the corpora of
seed 0.
"""

import numpy as np

from cmarr_jax.data.availability import condition_names
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.metrics import uar, war
from data_prep.synthetic import generative, posterior


def main() -> None:
    """Prints a Markdown table in per cent, for both rules of decision."""
    parameters = generative.make_parameters()
    print(f"| utterances | score | decided by | {' | '.join(condition_names(generative.MODALITIES))} |")
    print("|---" * (3 + 7) + "|")
    _print_rows([generative.sample(parameters, seed=seed, repeats=5) for seed in range(1, 9)], parameters)
    for scale in (1.0, 0.2):
        _print_rows([generative.sample(parameters, scale=scale)], parameters)


def _print_rows(corpora: list[Corpus], parameters: generative.Parameters) -> None:
    total = sum(len(corpus) for corpus in corpora)
    scored = [(corpus.label, posterior.log_likelihood(corpus, parameters)) for corpus in corpora]
    share = np.log(np.bincount(np.concatenate([label for label, _ in scored])) / total)
    for rule, log_prior in (("posterior", share), ("likelihood", None)):
        counts = np.sum([posterior.oracle_counts(*pair, log_prior) for pair in scored], axis=0)
        for name, score in (("WAR", war), ("UAR", uar)):
            print(f"| {total} | {name} | {rule} | {' | '.join(f'{100 * value:.1f}' for value in score(counts))} |")


if __name__ == "__main__":
    main()
