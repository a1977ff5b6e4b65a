"""What a method may say of its stages, shown with a teacher-student method that the harness does not know."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import make_corpus, run_config

from cmarr_jax.config import TrainConfig
from cmarr_jax.data.device import modality_configs, to_device
from cmarr_jax.data.folds import make_folds, stack_folds
from cmarr_jax.methods import hyperparameters_of, make_method, with_all_defaults
from cmarr_jax.training.checkpoint import load_run, save_run
from cmarr_jax.training.run import history_by_stage, make_run

TRAIN = TrainConfig(complete_epochs=3, missing_epochs=3, batch_size=12, eval_batch_size=12)


@pytest.fixture(scope="module")
def setting():
    corpus = make_corpus(sequences=(), absent=0.1)
    config = run_config(modality_configs(corpus), method="teacher_student", train=TRAIN, hidden=6)
    fold = jax.tree.map(lambda part: part[0], stack_folds(make_folds(corpus)))
    return config, make_method(config), to_device(corpus), fold


@pytest.fixture(scope="module")
def states(setting):
    """The state after each number of epochs, and the result."""
    config, method, data, fold = setting
    run = make_run(method, config.train)
    init, epochs, finish = map(jax.jit, run)
    found = [init(data, fold, jax.random.key(0), hyperparameters_of(config))]
    for until in range(1, 7):
        found.append(epochs(data, fold, found[-1], until))
    return found, finish(data, fold, found[-1])


def test_the_teacher_is_the_best_student_and_stays_frozen(states):
    found, result = states
    begun = found[3]  # stage 2 begins when the third epoch has ended
    assert (begun.stage, begun.epoch, begun.model.step) == (1, 0, 0)
    score = np.asarray(begun.history["val_uar"][:3])
    assert score.argmax() == 0 or not np.array_equal(score[0], score[1])
    best = found[1 + int(score.argmax())].model.params["student"]
    chex.assert_trees_all_equal(begun.model.params["student"], best)
    chex.assert_trees_all_equal(begun.model.params["teacher"], best["encoders"])
    for later in found[4:]:
        chex.assert_trees_all_equal(later.model.params["teacher"], best["encoders"])
    chex.assert_trees_all_equal(result.params["teacher"], best["encoders"])
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), found[6].model.params["student"], best)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_the_optimizer_of_a_stage_is_fresh(states):
    found, _ = states
    adam = lambda state: state.model.opt_state[1]
    assert adam(found[2]).count == 6  # three steps an epoch
    assert adam(found[3]).count == 0
    chex.assert_trees_all_equal(adam(found[3]).mu, jax.tree.map(jnp.zeros_like, adam(found[3]).mu))
    assert adam(found[4]).count == 3


def test_each_stage_has_its_weights_and_decay(states):
    found, result = states
    history = history_by_stage(result, ["teacher", "student"])
    assert (history["teacher"]["imitation"] == 0).all()  # nothing is hidden
    assert (history["student"]["imitation"] > 0).all()
    np.testing.assert_allclose(history["teacher"]["loss"], history["teacher"]["cross_entropy"], rtol=1e-6)
    student = history["student"]
    np.testing.assert_allclose(student["loss"], student["cross_entropy"] + 4 * student["imitation"], rtol=1e-5)
    # Decay in the first stage, too: its last epoch moves the parameters less than its second.
    change = lambda a, b: float(
        sum(jnp.abs(x - y).sum() for x, y in zip(*map(jax.tree.leaves, (a.model.params, b.model.params)), strict=True))
    )
    assert change(found[0], found[1]) > 0
    assert result.num_epochs == 6


def test_own_betas(setting):
    _, method, _, _ = setting
    grads = {"a": jnp.array([0.6, 0.0])}
    _, state = method.optimizer.update(grads, method.optimizer.init(grads))
    np.testing.assert_allclose(state[1].mu["a"], [0.3, 0.0], rtol=1e-6)  # (1 - 0.5) * 0.6


def test_a_method_of_ones_own_is_saved_and_read_back(setting, states, tmp_path):
    config, _, _, _ = setting
    _, result = states
    save_run(tmp_path / "run", config, result.params, result.normalizer, {})
    saved = load_run(tmp_path / "run")
    assert saved.config == with_all_defaults(config)
    chex.assert_trees_all_equal(saved.params, result.params)


def test_unknown_names_list_the_known_ones(setting):
    config, *_ = setting
    replace = lambda **changes: type(config)(
        **{**{f: getattr(config, f) for f in config.__dataclass_fields__}, **changes}
    )
    with pytest.raises(ValueError, match=r"there is no loss weight 'cycle'; this method has: imitation"):
        make_method(replace(weights={"cycle": 2.0}))
    with pytest.raises(ValueError, match=r"has no option 'blocks'; it has: hidden"):
        make_method(replace(options={"blocks": 5}))
    with pytest.raises(ValueError, match=r"the method 'mmim' is none of cm_arr, zero_fill, .*, and no module with"):
        make_method(replace(method="mmim"))
