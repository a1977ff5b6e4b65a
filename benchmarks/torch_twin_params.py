"""Parameters of CM-ARR in Flax as those of its PyTorch twin."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.torch_twin import Twin


def from_flax(params: Mapping[str, Any]) -> dict[str, Tensor]:
    """Parameters of `cmarr_jax.methods.cm_arr.CmArr` (or their gradients, by the same map) as a state dict of `Twin`.

    Leaves out the LSTM's second bias, `bias_hh_l0`, which the Flax network does not have: zeros give the same network.
    """
    state: dict[str, np.ndarray] = {"raw_temperature": params["raw_temperature"]}

    def linear(name: str, layer: Mapping[str, Any]) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = np.transpose(layer["kernel"]), layer["bias"]

    def linears(name: str, layer: Mapping[str, Any]) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = layer["kernel"], np.asarray(layer["bias"])[:, None]

    for key, encoder in params["encoders"].items():
        name = key.replace("encoder_", "encoders.")
        if "recurrent_kernel" in encoder:
            state[f"{name}.lstm.weight_ih_l0"] = np.transpose(encoder["input_kernel"])
            state[f"{name}.lstm.weight_hh_l0"] = np.transpose(encoder["recurrent_kernel"])
            state[f"{name}.lstm.bias_ih_l0"] = encoder["bias"]
            continue
        kernels = [encoder[key] for key in sorted(encoder, key=lambda k: (len(k), k)) if key.startswith("kernel_")]
        biases = np.split(np.asarray(encoder["bias"]), len(kernels))
        for index, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
            state[f"{name}.convs.{index}.weight"] = np.transpose(kernel, (1, 2, 0))
            state[f"{name}.convs.{index}.bias"] = bias
        linear(f"{name}.output", encoder["output"])
    linears("heads.log_std", params["heads"]["log_std"])
    flows = params["flows"]
    for pair, layer in itertools.product(range(flows["first_bias_0"].shape[1]), range(3)):
        for number, half in enumerate(("first", "second")):
            weights = {kind: flows[f"{half}_{kind}_{layer}"][:, pair] for kind in ("kernel", "bias")}
            linears(f"flows.conditioners.{2 * pair + number}.{2 * layer}", weights)
    linear("projection", params["projection"])
    for index, name in ((0, "Dense_0"), (3, "Dense_1"), (6, "logits")):
        linear(f"classifier.{index}", params["classifier"][name])
    return {name: torch.tensor(np.asarray(value)) for name, value in state.items()}


def load_flax(model: Twin, params: Mapping[str, Any]) -> None:
    """Copies parameters of `cmarr_jax.methods.cm_arr.CmArr` into the twin."""
    state = from_flax(params)
    second_biases = {name: torch.zeros_like(p) for name, p in model.named_parameters() if name.endswith("bias_hh_l0")}
    model.load_state_dict(state | second_biases)
