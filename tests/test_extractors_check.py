"""Weights, tokenizers, models and detectors are loaded and compared before anything is extracted."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from media_files import write_bert, write_onnx, write_wav2vec2

from cmarr_jax.data.corpus import ArchiveError
from data_prep import extractors
from data_prep.extractors.run import extract_all
from data_prep.extractors.transformer import check_tensors
from data_prep.media import Media
from data_prep.sources import Spec, make_extractor

# Folders of transformers


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("weights") / "bert")


def fault(name, **options):
    """The one sentence of the fault that `record` finds."""
    extractor = extractors.get(name, **options)
    with pytest.raises((ValueError, OSError)) as caught:
        extractor.record()
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def change_tensors(folder, change):
    """Writes the weights again, changed."""
    safetensors = pytest.importorskip("safetensors.torch")
    tensors = safetensors.load_file(folder / "model.safetensors")
    safetensors.save_file(change(tensors), folder / "model.safetensors", metadata={"format": "pt"})


def without(part):
    return lambda tensors: {key: value for key, value in tensors.items() if part not in key}


def extra(name):
    return lambda tensors: tensors | {name: next(iter(tensors.values())).clone()}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda tensors: {f"module.{key}": value for key, value in tensors.items()},
            "37 tensors of the model are not in the weights, 'embeddings.LayerNorm.bias' first, which is named "
            "'module.embeddings.LayerNorm.bias' there; save it again without the prefix 'module.'",
        ),
        (
            without("layer.1.output.dense.weight"),
            "1 tensors of the model are not in the weights, 'encoder.layer.1.output.dense.weight' first; copy",
        ),
        (
            extra("encoder.layer.2.output.dense.weight"),
            "1 tensors of the weights are not in the model that config.json describes, 'encoder.layer.2.output",
        ),
        (
            lambda tensors: tensors | {"encoder.layer.1.output.dense.bias": tensors["pooler.dense.weight"].clone()},
            "tensor 'encoder.layer.1.output.dense.bias' has shape [16, 16] in the weights where config.json gives [16]",
        ),
        (
            lambda tensors: (
                tensors | {"encoder.layer.1.output.dense.bias": tensors["pooler.dense.bias"] * float("nan")}
            ),
            "the model gives values that are not finite",
        ),
    ],
)
def test_tensors_that_do_not_fit_the_model_are_named(bert, tmp_path, change, sentence):
    folder = shutil.copytree(bert, tmp_path / "bert")
    change_tensors(folder, change)
    assert fault("text_transformer", weights=folder).startswith(f"{folder}: {sentence}")


@pytest.mark.parametrize("change", [without("pooler"), extra("cls.predictions.bias"), extra("lm_head.bias")])
def test_heads_and_the_pooler_do_not_matter(bert, tmp_path, change):
    folder = shutil.copytree(bert, tmp_path / "bert")
    change_tensors(folder, change)
    assert extractors.get("text_transformer", weights=folder).record()["width"] == 16


def test_what_may_be_missing_or_left_over(tmp_path):
    unused = ["pooler.dense.weight", "embeddings.position_ids", "masked_spec_embed"]
    # names as transformers 5.24 saves them for BERT, DistilBERT, ELECTRA, RoBERTa, wav2vec 2.0, and a classifier
    heads = ["cls.seq_relationship.weight", "vocab_projector.bias", "discriminator_predictions.dense.bias"]
    heads += ["lm_head.dense.weight", "quantizer.codevectors", "project_q.bias", "classifier.out_proj.weight"]
    check_tensors(tmp_path, unused, unused + heads, [])
    for name in ("encoder.layer.0.output.dense.weight", "feature_extractor.conv_layers.0.conv.weight"):
        with pytest.raises(ValueError, match=f"'{name}' first"):
            check_tensors(tmp_path, [*unused, name], [], [])
        with pytest.raises(ValueError, match=f"'{name}' first"):
            check_tensors(tmp_path, [], [*heads, name], [])
    with pytest.raises(ValueError, match=r"'lm_head.bias' first"):
        check_tensors(tmp_path, ["lm_head.bias"], [], [])


def test_damaged_folders(bert, tmp_path):
    def copy(name):
        return shutil.copytree(bert, tmp_path / name)

    cut = copy("cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:3000])
    assert fault("text_transformer", weights=cut).startswith(f"{cut}: its weights cannot be loaded (")
    pickled = copy("pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert fault("text_transformer", weights=pickled).startswith(f"{pickled}: its weights cannot be loaded (")
    config = copy("config")
    (config / "config.json").write_text('{"model_type": "no such"}')
    assert fault("text_transformer", weights=config).startswith(
        f"{config}: its Config cannot be loaded; copy config.json"
    )
    words = copy("words")
    for path in words.glob("*token*"):
        path.unlink()
    (words / "vocab.txt").unlink()
    assert f"{words}: the tokenizer does not know the word 'the'; copy tokenizer.json" in fault(
        "text_transformer", weights=words
    )
    longer = copy("longer")
    content = json.loads((longer / "tokenizer.json").read_text())
    content["model"]["vocab"]["more"] = 11
    (longer / "tokenizer.json").write_text(json.dumps(content))
    assert "the tokenizer has 12 word pieces where the model has 11" in fault("text_transformer", weights=longer)


def test_a_layer_outside_the_model_is_found_at_once(bert, tmp_path):
    speech = write_wav2vec2(tmp_path / "w")
    for name, weights, count in (("text_transformer", bert, 3), ("wav2vec2", speech, 2)):
        for layer in (count, 99, -count - 1):
            sentence = (
                f"{weights}: the model has hidden states 0 to {count - 1} (or -{count} to -1), found layer={layer}"
            )
            assert fault(name, weights=weights, layer=layer) == sentence
        for layer in (count - 1, -count):
            assert extractors.get(name, weights=weights, layer=layer).record()["width"] == 16


def test_a_folder_of_another_kind_of_model(bert, tmp_path):
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.ViTModel(transformers.ViTConfig(**small)).save_pretrained(tmp_path / "vit")
    t5 = transformers.T5Config(d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8, vocab_size=50)
    transformers.T5Model(t5).save_pretrained(tmp_path / "t5")
    speech = write_wav2vec2(tmp_path / "w")
    for name, folder, found in (
        ("text_transformer", speech, "'wav2vec2' (its main input is input_values)"),
        ("text_transformer", tmp_path / "vit", "'vit' (its main input is pixel_values)"),
        ("text_transformer", tmp_path / "t5", "'t5' (encoder and decoder)"),
        ("wav2vec2", bert, "'bert' (its main input is input_ids)"),
    ):
        sentence = fault(name, weights=folder)
        assert sentence.startswith(f"{folder}: holds a model of type {found}; give the folder of a single encoder")


def test_a_feature_extractor_that_is_missing_or_of_another_rate(tmp_path):
    folder = write_wav2vec2(tmp_path / "w")
    path = folder / "preprocessor_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"sampling_rate": 8000}))
    assert "the model fails on a first trial" in fault("wav2vec2", weights=folder)
    path.unlink()
    sentence = fault("wav2vec2", weights=folder)
    assert sentence.startswith(
        f"{folder}: its FeatureExtractor cannot be loaded; copy preprocessor_config.json of the same"
    )


def test_a_folder_of_the_hubs_cache_gets_the_right_folder_as_a_hint(bert, tmp_path):
    outer = tmp_path / "models--x--y"
    inner = outer / "snapshots" / "0123abcd"
    shutil.copytree(bert, inner)
    with pytest.raises(
        FileNotFoundError, match=f"{outer} is a folder of the hub's cache; give the folder in it, {inner}$"
    ):
        extractors.get("text_transformer", weights=outer)
    assert extractors.get("text_transformer", weights=inner).record()["width"] == 16


def test_the_commands_find_it_before_they_extract(bert, tmp_path):
    with pytest.raises(ArchiveError, match=r"^--text: .*bert: the model has hidden states 0 to 2 .*, found layer=99$"):
        make_extractor(Spec("--text", "text_transformer", {"weights": bert, "layer": 99}))


@pytest.mark.parametrize("spoil", [shutil.rmtree, lambda folder: (folder / "added.json").write_text("{}")])
def test_a_folder_that_changes_stops_the_run(bert, tmp_path, spoil):
    folder = shutil.copytree(bert, tmp_path / "bert")
    extractor = extractors.get("text_transformer", weights=folder)
    extractor.record()
    spoil(folder)
    with pytest.raises(ArchiveError, match=f"{folder}/.*: was changed after it was checked; leave the weights alone"):
        extract_all(extractor, [Media("a", text="i am .")], tmp_path / "cache", 1, progress=False)


def test_a_model_that_vanishes_stops_the_run(tmp_path):
    pytest.importorskip("onnxruntime")
    extractor = extractors.get("face_onnx", weights=write_onnx(tmp_path / "m.onnx"))
    extractor.record()
    (tmp_path / "m.onnx").unlink()
    copy = pickle.loads(pickle.dumps(extractor))  # as a worker process gets it
    for one in (extractor, copy):
        with pytest.raises(ArchiveError, match="was changed after it was checked"):
            one.check_unchanged()


# ONNX models and detectors of faces


@pytest.fixture
def model(tmp_path):
    pytest.importorskip("onnxruntime")
    return write_onnx(tmp_path / "m.onnx")


def test_damaged_models_and_models_that_do_not_run(model, tmp_path):
    onnx = pytest.importorskip("onnx")
    content = model.read_bytes()
    for name, damaged in (("empty", b""), ("cut", content[: len(content) // 2]), ("text", b"this is no model")):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(damaged)
        assert fault("face_onnx", weights=path).startswith(f"{path}: is damaged or no ONNX model (")

    def changed(name, change):
        proto = onnx.load(model)
        change(proto.graph)
        onnx.save(proto, tmp_path / name)
        return tmp_path / name

    batch = changed("batch.onnx", lambda graph: setattr(graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 8))
    assert fault("face_onnx", weights=batch).startswith(f"{batch}: fails on a blank face (")
    node = changed("node.onnx", lambda graph: setattr(graph.node[0], "op_type", "NoSuchLayer"))
    assert fault("face_onnx", weights=node).startswith(f"{node}: onnxruntime cannot load it (")
    zero = changed(
        "nan.onnx", lambda graph: graph.initializer[0].CopyFrom(
            onnx.numpy_helper.from_array(np.full((64, 3), np.nan, np.float32), "weight")
        )
    )  # fmt: skip
    assert "gives values that are not finite on a blank face" in fault("face_onnx", weights=zero, layer="last")
    two = changed("two.onnx", lambda graph: graph.input.append(onnx.ValueInfoProto.FromString(
        graph.input[0].SerializeToString().replace(b"face", b"more"))))  # fmt: skip
    assert f"{two}: takes [1, 1, 64, 64], [1, 1, 64, 64]; [1, 1, H, W] or" in fault("face_onnx", weights=two)


def test_tensors_beside_the_model_are_part_of_the_record(model, tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "apart" / "m.onnx"
    path.parent.mkdir()
    onnx.save(onnx.load(model), path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert {"m.onnx", "m.data"} < set(extractors.get("face_onnx", weights=path).record()["weights"])
    (path.parent / "m.data").unlink()
    assert fault("face_onnx", weights=path).startswith(f"{path}: is damaged or no ONNX model (")


def test_detectors_of_another_kind(model, tmp_path):
    from skimage import data

    good = Path(data.lbp_frontal_face_cascade_filename()).read_text()
    for name, content, found in (
        ("text", "no xml", "is damaged or no XML ("),
        ("cut", good[: len(good) // 2], "is damaged or no XML ("),
        ("other", "<a><b/></a>", "is no cascade;"),
        ("haar", good.replace("LBP", "HAAR"), "is a cascade of HAAR features;"),
        ("part", "<o><cascade><featureType>LBP</featureType></cascade></o>", "is damaged ("),
    ):
        path = tmp_path / f"{name}.xml"
        path.write_text(content)
        for extractor, options in (("face_onnx", {"weights": model}), ("face_hog", {})):
            sentence = fault(extractor, detector=path, **options)
            assert sentence.startswith(f"{path}: {found}")
            assert sentence.endswith(
                "give the XML of a cascade of local binary patterns, or leave the option detector out"
            )


def test_a_tensor_whose_name_is_a_number_can_be_given(model, tmp_path):
    onnx = pytest.importorskip("onnx")
    proto = onnx.load(model)
    proto.graph.node[1].output[0] = proto.graph.node[2].input[0] = "11"
    onnx.save(proto, tmp_path / "numbers.onnx")
    assert (
        extractors.get("face_onnx", weights=tmp_path / "numbers.onnx", layer=11).width == 64
    )  # 11 as commands read it


@pytest.mark.parametrize("options", [{"min_face": 0}, {"step_ratio": 3}, {"margin": -1}, {"max_frames": 0}])
def test_options_of_faces_out_of_range(options):
    pytest.importorskip("av")
    with pytest.raises(ValueError, match="max_frames must be 1 or more, min_face above 0"):
        extractors.get("face_hog", **options)
