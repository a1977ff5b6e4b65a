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


def gaussian_entropy(log_std):
    """One Gaussian, `[D]`."""
    return sum(0.5 * math.log(2 * math.pi * math.e * math.exp(float(x)) ** 2) for x in log_std)


def log_sum_exp(terms):
    largest = max(terms)
    return largest + math.log(sum(math.exp(term - largest) for term in terms))


def info_nce(logits, positive, valid, candidate):
    logits = np.asarray(logits, np.float64)
    candidate = np.broadcast_to(candidate, logits.shape)
    out = np.zeros(len(logits))
    for i in range(len(logits)):
        if valid[i]:
            terms = [logits[i, j] for j in range(logits.shape[1]) if candidate[i, j] or j == positive[i]]
            out[i] = log_sum_exp(terms) - logits[i, positive[i]]
    return out


def symmetric_info_nce(logits_ab, logits_ba, where):
    index = np.arange(len(where))
    to_b, to_a = (info_nce(logits, index, where, where) for logits in (logits_ab, logits_ba))
    return (to_b + to_a) / 2


def distribution_info_nce(mean_a, std_a, mean_b, std_b, where, temperature, scale):
    distance = pairwise_squared_w2(mean_a, std_a, mean_b, std_b)
    return symmetric_info_nce(-scale * distance / temperature, -scale * distance.T / temperature, where)


def cosines(points_a, points_b):
    out = np.zeros((len(points_a), len(points_b)))
    for i, a in enumerate(np.asarray(points_a, np.float64)):
        for j, b in enumerate(np.asarray(points_b, np.float64)):
            out[i, j] = sum(a * b) / math.sqrt(sum(a * a) * sum(b * b))
    return out


def point_info_nce(points_a, points_b, where, temperature):
    logits = cosines(points_a, points_b) / temperature
    return symmetric_info_nce(logits, logits.T, where)


def alignment(mean, std, present, where, temperature, scale):
    num_modalities = mean.shape[1]
    columns = []
    for a in range(num_modalities):
        for b in range(a + 1, num_modalities):
            both = np.array([where[i] and present[i, a] and present[i, b] for i in range(len(mean))])
            columns.append(
                distribution_info_nce(mean[:, a], std[:, a], mean[:, b], std[:, b], both, temperature, scale)
            )
    return np.stack(columns, axis=1)


def supervised_contrastive(points, labels, where, temperature):
    """Values and validity of the anchors."""
    logits = cosines(points, points) / temperature
    value, valid = np.zeros(len(points)), np.zeros(len(points), bool)
    for i in range(len(points)):
        others = [a for a in range(len(points)) if a != i and where[a]]
        positives = [p for p in others if labels[p] == labels[i]]
        if where[i] and positives:
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
