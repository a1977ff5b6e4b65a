"""A map of the embeddings before training and after it."""

import numpy as np
from sklearn.manifold import TSNE

from experiments.report.drawing import GRID, MARKERS, SERIES, Figure, canvas, to_svg
from experiments.report.material import Material

MOST_POINTS = 300  # utterances in a map


def map_figure(material: Material) -> Figure | None:
    """A t-SNE map of the embeddings of CM-ARR, of one fold, before training and after it, by class and by modality."""
    main = material.method
    found = material.inspections(main) if main in material.runs else []
    found = [(outputs, values) for outputs, values in found if "initial_point" in values]
    if main is None or not found:
        return None
    outputs, values = found[0]
    modalities, classes = material.config["data"]["modalities"], material.class_names
    rows = np.random.default_rng(0).permutation(len(outputs.label))[:MOST_POINTS]
    at = np.argwhere(outputs.present[rows])
    label, numbers = outputs.label[rows][at[:, 0]], []
    with canvas(8.4, 8.0, 2, 2) as (figure, axes):
        for line, (name, key) in enumerate((("before training", "initial_point"), ("after training", "point"))):
            points, flat = _flattened(values[key][rows].astype(np.float64)[at[:, 0], at[:, 1]])
            for axis, groups, names in ((axes[line, 0], label, classes), (axes[line, 1], at[:, 1], modalities)):
                for number, group in enumerate(names):
                    where = groups == number
                    marker = MARKERS[(number + number // 8) % 8]  # the ninth has the first colour and another marker
                    axis.plot(*flat[where].T, marker, color=SERIES[number % 8], markersize=3, alpha=0.75,
                              linestyle="none", label=group)  # fmt: skip
                axis.set_xticks([])
                axis.set_yticks([])
                axis.set_title(f"{name}, by {'class' if names is classes else 'modality'}")
                axis.spines[:].set_color(GRID)
                if line:
                    axis.legend(
                        loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=min(4, len(names)), markerscale=1.6
                    )
                shares = purity(points, groups, at[:, 0])
                numbers.append([name, "class" if names is classes else "modality", *(f"{x:.3f}" for x in shares)])
        svg = to_svg(figure, "map")
    found_text = neighbours_text(numbers)
    return Figure(
        "map",
        f"Map of the embeddings of {material.label(main)}",
        f"t-SNE of {len(rows)} test utterances of the first fold and seed, a point for each modality of each. "
        f"{found_text} Distances on such a map mean little.",
        f"Four scatter plots of embeddings before and after training, by class and by modality. {found_text}",
        svg,
        ["embeddings", "groups", "nearest point of another utterance of the same group", "by chance"],
        numbers,
    )


def _flattened(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points on a common scale, and their t-SNE in two dimensions."""
    points = (points - points.mean(0)) / np.maximum(points.std(), 1e-9)
    perplexity = min(30, (len(points) - 1) / 3)
    return points, TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(points)


def purity(points: np.ndarray, groups: np.ndarray, utterances: np.ndarray) -> tuple[float, float]:
    """Share of points whose nearest neighbour is of the same group, and the share if any other point were nearest.

    Points of the same utterance are no neighbours: alignment draws them together, and they have one class.

    Args:
      points: `[N, D]`.
      groups: Of each point, `[N]`.
      utterances: Of each point, `[N]`; at least two.
    """
    squared = (points**2).sum(1)
    distance = squared[:, None] + squared[None] - 2 * points @ points.T
    is_other = utterances[:, None] != utterances[None]
    nearest = np.where(is_other, distance, np.inf).argmin(1)
    same = groups[:, None] == groups[None]
    by_chance = ((same & is_other).sum(1) / is_other.sum(1)).mean()
    return float(np.mean(groups[nearest] == groups)), float(by_chance)


def neighbours_text(numbers: list[list]) -> str:
    """What the numbers of the map say, in sentences."""
    share = {(name, kind): round(100 * float(value)) for name, kind, value, _ in numbers}
    by_chance = {kind: round(100 * float(value)) for _, kind, _, value in numbers}
    told = []
    for kind, subject, verb in (("class", "Classes", "gathered"), ("modality", "Modalities", "mixed")):
        before, after = share["before training", kind], share["after training", kind]
        done = "have" if (after > before if kind == "class" else after < before) else "have not"
        told.append(
            f"{subject} {done} {verb}: the nearest point of another utterance is of the same {kind} in {after} "
            f"per cent after training, {before} before, {by_chance[kind]} by chance."
        )
    return " ".join(told)
