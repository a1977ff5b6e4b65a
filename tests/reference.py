"""Slow numpy twins of the losses: loops over items, float64, written from the formulas and not from the library."""

import math

import numpy as np


def masked_mean(values, where):
    counted = [float(value) for value, counts in zip(np.ravel(values), np.ravel(where), strict=True) if counts]
    return sum(counted) / len(counted) if counted else 0.0


def squared_w2(mean_a, std_a, mean_b, std_b):
    """One pair of Gaussians, `[D]` each."""
    return sum(
        float(ma - mb) ** 2 + float(sa - sb) ** 2 for ma, sa, mb, sb in zip(mean_a, std_a, mean_b, std_b, strict=True)
    )


def pairwise_squared_w2(mean_a, std_a, mean_b, std_b):
    mean_a, std_a, mean_b, std_b = (np.asarray(x, np.float64) for x in (mean_a, std_a, mean_b, std_b))
    out = np.zeros((len(mean_a), len(mean_b)))
    for i in range(len(mean_a)):
        for j in range(len(mean_b)):
            out[i, j] = squared_w2(mean_a[i], std_a[i], mean_b[j], std_b[j])
    return out


def pairwise_squared_mean_distance(mean_a, std_a, mean_b, std_b):
    out = np.zeros((len(mean_a), len(mean_b)))
    for i in range(len(mean_a)):
        for j in range(len(mean_b)):
            out[i, j] = sum(float(a - b) ** 2 for a, b in zip(mean_a[i], mean_b[j], strict=True))
    return out


def kl(mean_a, std_a, mean_b, std_b):
    """From one Gaussian to another, `[D]` each, with the logs that the symmetric form does without."""
    total = 0.0
    for ma, sa, mb, sb in zip(*(np.asarray(x, np.float64) for x in (mean_a, std_a, mean_b, std_b)), strict=True):
        total += math.log(sb / sa) + (sa**2 + (ma - mb) ** 2) / (2 * sb**2) - 0.5
    return total


def pairwise_symmetric_kl(mean_a, std_a, mean_b, std_b):
    out = np.zeros((len(mean_a), len(mean_b)))
    for i in range(len(mean_a)):
        for j in range(len(mean_b)):
            a, b = (mean_a[i], std_a[i]), (mean_b[j], std_b[j])
            out[i, j] = (kl(*a, *b) + kl(*b, *a)) / 2
    return out


def gaussian_entropy(log_std):
    """One Gaussian, `[D]`."""
    return sum(0.5 * math.log(2 * math.pi * math.e * math.exp(float(x)) ** 2) for x in log_std)


def log_sum_exp(terms):
    largest = max(terms)
    return largest + math.log(sum(math.exp(term - largest) for term in terms))


def info_nce(logits, positive, where, candidate, temperature=1.0, positive_in_denominator=True):
    """Values and validity of the anchors; entries that are not used are not touched."""
    logits = np.asarray(logits, np.float64)
    candidate = np.broadcast_to(candidate, logits.shape)
    value, valid = np.zeros(len(logits)), np.zeros(len(logits), bool)
    for i in range(len(logits)):
        negatives = [j for j in range(logits.shape[1]) if candidate[i, j] and j != positive[i]]
        terms = [*negatives, positive[i]] if positive_in_denominator else negatives
        if where[i] and terms:
            total = log_sum_exp([logits[i, j] / temperature for j in terms])
            value[i], valid[i] = total - logits[i, positive[i]] / temperature, True
    return value, valid


def symmetric_info_nce(logits_ab, logits_ba, where, positive_in_denominator=True):
    """Values and validity of the pairs."""
    index = np.arange(len(where))
    (to_b, valid), (to_a, _) = (
        info_nce(logits, index, where, where, positive_in_denominator=positive_in_denominator)
        for logits in (logits_ab, logits_ba)
    )
    return (to_b + to_a) / 2, valid


def distribution_info_nce(
    mean_a, std_a, mean_b, std_b, where, temperature, scale, distance=pairwise_squared_w2, positive_in_denominator=True
):
    a_to_b, b_to_a = distance(mean_a, std_a, mean_b, std_b), distance(mean_b, std_b, mean_a, std_a)
    factor = -scale / temperature
    return symmetric_info_nce(factor * a_to_b, factor * b_to_a, where, positive_in_denominator)


def cosines(points_a, points_b):
    out = np.zeros((len(points_a), len(points_b)))
    for i, a in enumerate(np.asarray(points_a, np.float64)):
        for j, b in enumerate(np.asarray(points_b, np.float64)):
            out[i, j] = sum(a * b) / math.sqrt(sum(a * a) * sum(b * b))
    return out


def point_info_nce(points_a, points_b, where, temperature, positive_in_denominator=True):
    logits = cosines(points_a, points_b) / temperature
    return symmetric_info_nce(logits, logits.T, where, positive_in_denominator)


def over_pairs(loss_fn, present, where):
    """Values and validity, `[B, pairs]`, of `loss_fn(a, b, pairs that count)` for all modalities a < b."""
    columns = []
    for a in range(present.shape[1]):
        for b in range(a + 1, present.shape[1]):
            both = np.array([where[i] and present[i, a] and present[i, b] for i in range(len(present))])
            columns.append(loss_fn(a, b, both))
    value, valid = zip(*columns, strict=True)
    return np.stack(value, axis=1), np.stack(valid, axis=1)


def alignment(mean, std, present, where, temperature, scale, **kwargs):
    def loss_fn(a, b, both):
        return distribution_info_nce(mean[:, a], std[:, a], mean[:, b], std[:, b], both, temperature, scale, **kwargs)

    return over_pairs(loss_fn, present, where)


def point_alignment(points, present, where, temperature, **kwargs):
    loss_fn = lambda a, b, both: point_info_nce(points[:, a], points[:, b], both, temperature, **kwargs)
    return over_pairs(loss_fn, present, where)


def supervised_contrastive(points, labels, where, temperature):
    """Values and validity of the anchors; points with a negative label are not there."""
    logits = cosines(points, points) / temperature
    value, valid = np.zeros(len(points)), np.zeros(len(points), bool)
    counted = [i for i in range(len(points)) if where[i] and labels[i] >= 0]
    for i in counted:
        others = [a for a in counted if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        if positives:
            total = log_sum_exp([logits[i, a] for a in others])
            value[i] = -sum(logits[i, p] - total for p in positives) / len(positives)
            valid[i] = True
    return value, valid


def flow_nll_per_dim(latent, log_det):
    """One latent, `[D]`."""
    log_prob = sum(-0.5 * float(u) ** 2 - 0.5 * math.log(2 * math.pi) for u in latent)
    return -(log_prob + float(log_det)) / len(latent)


def squared_error(prediction, target):
    """One item, `[D]`."""
    return sum(float(p - t) ** 2 for p, t in zip(prediction, target, strict=True)) / len(prediction)
