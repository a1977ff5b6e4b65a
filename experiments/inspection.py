"""What a method's `inspect` says of the test utterances of a run: for figures of embeddings and reconstructions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.batching import PartPlan, arrange, plan_batches, take
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.folds import Fold, stack_folds
from cmarr_jax.data.normalizer import Normalizer, normalize
from cmarr_jax.methods import make_method
from cmarr_jax.methods.base import Method, Params
from cmarr_jax.training.evaluation import in_row_order
from cmarr_jax.training.run import RunResult
from cmarr_jax.types import Array
from experiments.table import Table

Inspector = Callable[[int, RunResult], dict[str, np.ndarray]]


def make_inspector(table: Table, row: str, data: DeviceCorpus) -> Inspector | None:
    """`(number of the run, result) -> arrays` of a row, compiled at its first call; None if the method says nothing.

    `point` `[n, M, D]`, float16, and `spread` `[n, M]` of all modalities; `error` `[P, n, M]` by condition. The first
    run of a row has `initial_point`, the embeddings before training, too.
    """
    config = table.config(row, 0)
    method, stacked = make_method(config), stack_folds(table.folds)
    if method.inspect is None:
        return None
    plan = plan_batches(data, stacked, config.train).test
    inspect = jax.jit(lambda params, normalizer, fold: _inspect(method, plan, data, params, normalizer, fold))

    def initial(normalizer: Normalizer, fold: Fold, key: Array) -> Params:
        batch = normalize(normalizer, take(data, fold.train[:2], fold.train_where[:2]))
        return method.init(jax.random.split(key)[0], batch)

    def of_run(number: int, result: RunResult) -> dict[str, np.ndarray]:
        at, seed = table.units[number]
        fold = jax.tree.map(lambda part: part[at], stacked)
        found = jax.device_get(inspect(result.params, result.normalizer, fold))
        if number == 0:
            params = jax.jit(initial)(result.normalizer, fold, jax.random.fold_in(jax.random.key(seed), at))
            found["initial_point"] = jax.device_get(inspect(params, result.normalizer, fold))["point"]
        num_rows = len(table.folds[at].test)
        found = {name: value[:, :num_rows] if name == "error" else value[:num_rows] for name, value in found.items()}
        return {name: value.astype(np.float16) if "point" in name else value for name, value in found.items()}

    return of_run


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
        by_pattern = jax.vmap(lambda pattern: describe(params, embedding, pattern[None] & batch.present)["error"])
        found = describe(params, embedding, batch.present)
        return found | {"error": by_pattern(patterns).swapaxes(0, 1)}

    found = jax.lax.map(one, (position, counted))
    found = {name: in_row_order(value, position, counted, len(fold.test)) for name, value in found.items()}
    return found | {"error": found["error"].swapaxes(0, 1)}
