"""Video features: a layer of a local ONNX expression model for the largest face of each sampled frame."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from data_prep.extractors.base import need, need_file, one_line
from data_prep.extractors.faces import FaceExtractor, resize_face

EXPORT = "copy it again, or export it for one face at a time as float32"


@dataclasses.dataclass(frozen=True)
class FaceOnnx(FaceExtractor):
    """Crops and resizes the largest face of each frame and runs the model on it; zeros if there is no face.

    The model takes `[1, 1, H, W]` grey or `[1, 3, H, W]` RGB float32. Where it leaves H and W open, they are `size`.

    Attributes:
      weights: The model; the defaults fit FER+ (64 x 64 grey, values 0 to 255).
      layer: `last` (first output of the model), `penultimate` (what enters the last Gemm, MatMul or Conv), or the name
        of any tensor of the graph. A map over space is averaged.
      size: H and W, where the model leaves them open.
      mean: Subtracted from the values 0 to 255,
      std: and then divided by.
    """

    name: ClassVar[str] = "face_onnx"
    libraries: ClassVar[tuple[str, ...]] = ("av", "scikit-image", "onnxruntime")
    weights: Path = Path("weights/emotion-ferplus-8.onnx")
    layer: str = "penultimate"
    size: int = 64
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        need("onnxruntime")
        need("onnx")
        need_file(self.weights, "expression model")
        if self.std == 0 or self.size < 1:
            raise ValueError(f"std must not be 0 and size be 1 or more, found {self.std} and {self.size}")

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """The model, files beside it that hold its tensors, and the detector."""
        return (self.weights, *self._beside, self._cascade)

    @functools.cached_property
    def _beside(self) -> tuple[Path, ...]:
        """Files of tensors that the model names; ONNX keeps tensors of large models apart."""
        found = {
            entry.value
            for tensor in _load(self.weights, load_external_data=False).graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        }
        return tuple(self.weights.parent / name for name in sorted(found))

    @functools.cached_property
    def _session(self) -> tuple[Any, str]:
        """The model with the wanted tensor as an output, and that tensor's name."""
        onnx, runtime = need("onnx"), need("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # `run` works on many utterances at once
        options.log_severity_level = 4  # errors are raised
        model = _load(self.weights)
        tensor = _tensor(model.graph, self.layer, self.weights)
        if tensor not in {output.name for output in model.graph.output}:
            model.graph.output.append(onnx.ValueInfoProto(name=tensor))
        try:
            return runtime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"]), tensor
        except Exception as error:  # the runtime raises many types
            raise ValueError(f"{self.weights}: onnxruntime cannot load it ({one_line(error)}); {EXPORT}") from error

    @functools.cached_property
    def _input(self) -> tuple[str, int, int, int]:
        """Name, channels, height and width of what the model takes."""
        found = self._session[0].get_inputs()
        if len(found) != 1 or len(found[0].shape) != 4 or found[0].shape[1] not in (1, 3):
            shapes = ", ".join(str(tensor.shape) for tensor in found) or "nothing"
            raise ValueError(f"{self.weights}: takes {shapes}; [1, 1, H, W] or [1, 3, H, W] is expected")
        height, width = (side if isinstance(side, int) else self.size for side in found[0].shape[2:])
        return found[0].name, found[0].shape[1], height, width

    @property
    def colour(self) -> Literal["gray", "rgb24"]:
        """Grey or RGB, as the model takes it."""
        return "rgb24" if self._input[1] == 3 else "gray"

    @functools.cached_property
    def width(self) -> int:
        """D. Raises ValueError if the model does not run on a blank face, or gives values that are not finite."""
        blank = np.zeros((*self._input[2:], *[3] * (self._input[1] == 3)), np.uint8)
        try:
            out = self.describe(blank)
            is_finite = np.isfinite(out).all()
        except Exception as error:  # the runtime raises many types
            raise ValueError(f"{self.weights}: fails on a blank face ({one_line(error)}); {EXPORT}") from error
        if not is_finite:
            raise ValueError(f"{self.weights}: gives values that are not finite on a blank face; {EXPORT}")
        return len(out)

    def describe(self, face: np.ndarray) -> np.ndarray:
        """The wanted layer, `[D]`, for a face."""
        name, channels, height, width = self._input
        values = (resize_face(face, height, width) - self.mean) / self.std
        image = values.transpose(2, 0, 1) if channels == 3 else values[None]
        (out,) = self._session[0].run([self._session[1]], {name: image[None].astype(np.float32)})
        return out[0].reshape(out.shape[1], -1).mean(axis=1) if out.ndim > 2 else out.reshape(-1)


def _load(path: Path, **options: bool) -> Any:
    try:
        model = need("onnx").load(path, **options)
    except Exception as error:  # damaged bytes make protobuf raise its own types
        text = f"is damaged or no ONNX model ({one_line(error)}); copy it again, with the files beside it"
        raise ValueError(f"{path}: {text}") from error
    if not model.graph.node or not model.graph.output:  # an empty file is a valid message without content
        raise ValueError(f"{path}: is damaged or no ONNX model (it has no nodes or no output); copy it again")
    return model


def _tensor(graph: Any, layer: str, source: Path) -> str:
    """The name of the tensor that `layer` means."""
    if layer == "last":
        return graph.output[0].name
    if layer == "penultimate":
        heads = [node for node in graph.node if node.op_type in ("Gemm", "MatMul", "Conv")]
        inner = {name for node in graph.node for name in node.output}
        for name in heads[-1].input if heads else ():
            if name in inner:
                return name
        raise ValueError(f"{source}: has no layer before its last one; give layer='last' or the name of a tensor")
    names = [name for node in graph.node for name in node.output]
    if layer not in names:
        raise ValueError(f"{source}: has no tensor {layer!r}; its last ones are {', '.join(names[-5:])}")
    return layer
