"""Video features: a layer of a local ONNX expression model for the largest face of each sampled frame."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_prep.extractors.base import Extractor, MediaError, Modality, need, need_file
from data_prep.extractors.frames import find_face, read_frames
from data_prep.media import Media


@dataclasses.dataclass(frozen=True)
class FaceOnnx(Extractor):
    """Crops and resizes the largest face of each frame and runs the model on it; zeros if there is no face.

    The model takes `[1, 1, H, W]` grey or `[1, 3, H, W]` RGB float32. Where it leaves H and W open, they are `size`.

    Attributes:
      weights: The model; the defaults fit FER+ (64 x 64 grey, values 0 to 255).
      layer: `last` (first output of the model), `penultimate` (what enters the last Gemm, MatMul or Conv), or the name
        of any tensor of the graph. A map over space is averaged.
      detector: XML of a cascade of local binary patterns; `None`: the frontal one that scikit-image ships.
      max_frames: Frames of an utterance, evenly sampled; 50 as in the MMIN family.
      min_face: Smallest face, as a share of the shorter side of the picture.
      step_ratio: Coarseness of the search for faces, 1 to 1.5.
      margin: Share of the face's size that the crop is enlarged by on each side.
      size: H and W, where the model leaves them open.
      mean: Subtracted from the values 0 to 255,
      std: and then divided by.
    """

    name: ClassVar[str] = "face_onnx"
    modality: ClassVar[Modality] = "video"
    libraries: ClassVar[tuple[str, ...]] = ("av", "scikit-image", "onnxruntime")
    weights: Path = Path("weights/emotion-ferplus-8.onnx")
    layer: str = "penultimate"
    detector: Path | None = None
    max_frames: int = 50
    min_face: float = 0.125
    step_ratio: float = 1.0
    margin: float = 0.0
    size: int = 64
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        for module in ("av", "skimage", "onnxruntime", "onnx"):
            need(module)
        need_file(self.weights, "expression model")
        if self.detector is not None:
            need_file(self.detector, "face detector")
        if self.max_frames < 1 or self.std == 0:
            raise ValueError(f"max_frames must be 1 or more and std not 0, found {self.max_frames} and {self.std}")

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """The model and the detector."""
        return (self.weights, self._cascade)

    @functools.cached_property
    def _cascade(self) -> Path:
        return self.detector or Path(need("skimage.data").lbp_frontal_face_cascade_filename())

    @functools.cached_property
    def _session(self) -> tuple[Any, str]:
        """The model with the wanted tensor as an output, and that tensor's name."""
        onnx, runtime = need("onnx"), need("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # `run` works on many utterances at once
        options.log_severity_level = 3
        try:
            model = onnx.load(self.weights)
        except Exception as error:  # damaged bytes make protobuf raise its own types
            raise ValueError(f"{self.weights}: is damaged or no ONNX model ({error})") from error
        tensor = _tensor(model.graph, self.layer, self.weights)
        if tensor not in {output.name for output in model.graph.output}:
            model.graph.output.append(onnx.ValueInfoProto(name=tensor))
        return runtime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"]), tensor

    @functools.cached_property
    def _input(self) -> tuple[str, int, int, int]:
        """Name, channels, height and width of what the model takes."""
        found = self._session[0].get_inputs()[0]
        if len(found.shape) != 4 or found.shape[1] not in (1, 3):
            raise ValueError(f"{self.weights}: takes {found.shape}; [1, 1, H, W] or [1, 3, H, W] is expected")
        height, width = (side if isinstance(side, int) else self.size for side in found.shape[2:])
        return found.name, found.shape[1], height, width

    @functools.cached_property
    def width(self) -> int:
        """D."""
        return len(self._show(np.zeros((*self._input[2:], *[3] * (self._input[1] == 3)), np.uint8)))

    def _show(self, picture: np.ndarray) -> np.ndarray:
        """The wanted layer, `[D]`, for a face."""
        name, channels, *shape = self._input
        resize = need("skimage.transform").resize
        face = resize(picture, shape, order=1, anti_aliasing=True, preserve_range=True)
        face = (face - self.mean) / self.std
        image = face.transpose(2, 0, 1) if channels == 3 else face[None]
        (out,) = self._session[0].run([self._session[1]], {name: image[None].astype(np.float32)})
        return out[0].reshape(out.shape[1], -1).mean(axis=1) if out.ndim > 2 else out.reshape(-1)

    def extract(self, media: Media) -> np.ndarray:
        """`[T, D]`, T = sampled frames, at most `max_frames`; a row of zeros is a frame without a face."""
        if media.video is None:
            raise MediaError("there is no video")
        colour = "rgb24" if self._input[1] == 3 else "gray"
        pictures = read_frames(
            media.video, media.start, media.end, media.half, max_frames=self.max_frames, format=colour
        )
        features = np.zeros((len(pictures), self.width), np.float32)
        for row, picture in enumerate(pictures):
            grey = picture if picture.ndim == 2 else np.round(picture @ [0.299, 0.587, 0.114]).astype(np.uint8)
            face = find_face(grey, self._cascade, min_face=self.min_face, step_ratio=self.step_ratio)
            if face is not None:
                features[row] = self._show(picture[_enlarge(face, self.margin, grey.shape)])
        return features


def _enlarge(face: tuple[slice, slice], margin: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    rows, columns = (
        slice(max(0, side.start - extra), min(limit, side.stop + extra))
        for side, limit in zip(face, shape, strict=True)
        for extra in [round(margin * (side.stop - side.start))]
    )
    return rows, columns


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
