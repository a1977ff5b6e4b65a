"""What a method's `inspect` says of the test utterances of a run: for figures of embeddings and reconstructions."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.config import RunConfig
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.batching import PartPlan, arrange, plan_batches, take
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.folds import Fold
from cmarr_jax.data.normalizer import Normalizer, normalize
from cmarr_jax.methods import make_method
from cmarr_jax.methods.base import Method, Params
from cmarr_jax.training.evaluation import in_row_order
from cmarr_jax.types import Array

Inspect = Callable[[Params, Normalizer, Fold], dict[str, Array]]


def make_inspect(
    config: RunConfig, data: DeviceCorpus, folds: Fold, compiler_options: dict[str, Any] | None
) -> Inspect | None:
    """`(params, normalizer, fold) -> arrays` of the test rows, compiled at its first call; None: nothing to say.

    `point` `[n, M, D]` and `spread` `[n, M]` of all modalities; `error` `[P, n, M]` by condition.
    """
    method, plan = make_method(config), plan_batches(data, folds, config.train).test
    if method.inspect is None:
        return None
    inspect = lambda data, params, normalizer, fold: _inspect(method, plan, data, params, normalizer, fold)
    return partial(jax.jit(inspect, compiler_options=compiler_options), data)


def inspect_run(
    inspect: Inspect, params: Params, normalizer: Normalizer, fold: Fold, num_rows: int, initial: Params | None = None
) -> dict[str, np.ndarray]:
    """What `inspect` says of a run, as numpy arrays, without the rows that fill up its fold; points as float16.

    Args:
      inspect: From `make_inspect`.
      params: Of the run.
      normalizer: Of the run.
      fold: Of the run.
      num_rows: Test rows of the fold.
      initial: Parameters before training: then there is `initial_point`, too.
    """
    found = jax.device_get(inspect(params, normalizer, fold))
    if initial is not None:
        found["initial_point"] = jax.device_get(inspect(initial, normalizer, fold))["point"]
    found = {name: value[:, :num_rows] if name == "error" else value[:num_rows] for name, value in found.items()}
    return {name: value.astype(np.float16) if "point" in name else value for name, value in found.items()}


def _inspect(
    method: Method, plan: PartPlan, data: DeviceCorpus, params: Params, normalizer: Normalizer, fold: Fold
) -> dict[str, Array]:
    describe = method.inspect
    assert describe is not None
    lengths = {name: frames[fold.test] for name, frames in data.length.items()}
    (position, counted), _ = arrange(lengths, jnp.arange(len(fold.test)), fold.test_where, plan)
    patterns = jnp.asarray(availability_patterns(data.present.shape[1]))

    def one(part: tuple[Array, Array]) -> dict[str, Array]:
        position, counted = part
        batch = normalize(normalizer, take(data, fold.test[position], counted, plan))
        embedding = method.encode(params, batch)
        found = jax.vmap(lambda pattern: describe(params, batch, embedding, pattern[None] & batch.present))(patterns)
        # The others are the same in every condition; the last one is complete data.
        return {name: value.swapaxes(0, 1) if name == "error" else value[-1] for name, value in found.items()}

    found = jax.lax.map(one, (position, counted))
    found = {name: in_row_order(value, position, counted, len(fold.test)) for name, value in found.items()}
    return found | {"error": found["error"].swapaxes(0, 1)}
