"""From the miniature raw corpora to archives with the real extractors: openSMILE, a tiny BERT and a tiny ONNX model."""

import pytest

from cmarr_jax.data.archive import read_archive
from data_prep import validate
from data_prep.details import details_path, read_details
from data_prep.iemocap import __main__ as iemocap
from data_prep.msp_improv import __main__ as msp_improv
from tests import miniature
from tests.media_files import write_bert, write_onnx
from tests.test_iemocap import assert_same_as_data_set


@pytest.mark.parametrize("name", ["iemocap", "msp_improv"])
def test_raw_corpus_to_archive(tmp_path, name, capsys):
    for module in ("opensmile", "soundfile", "onnxruntime", "transformers", "torch"):
        pytest.importorskip(module, reason="needs the extras extract and extract-torch")
    bert, model = write_bert(tmp_path / "bert"), write_onnx(tmp_path / "faces.onnx")
    make, command = {
        "iemocap": (miniature.iemocap, iemocap),
        "msp_improv": (miniature.msp_improv, msp_improv),
    }[name]
    out = tmp_path / "out.npz"
    argv = [str(make(tmp_path)), str(out), "--allow-count-differences", "--num-workers", "1"]
    argv += ["--text", f"text_transformer:weights={bert},layer=1", "--video", f"face_onnx:weights={model},max_frames=4"]
    assert command.main(argv) == 0
    corpus, record = read_archive(out), read_details(details_path(out)).record
    assert (corpus.widths["audio"], corpus.widths["text"]) == (130, 16)
    no_face = [key for key, reason in record["failures"]["video"].items() if reason == "no face was found in any frame"]
    assert corpus.present.sum() == 3 * len(corpus) - len(no_face) - (13 if name == "iemocap" else 3)
    assert record["extractors"]["audio"]["name"] == "compare_2016"
    assert record["extractors"]["text"]["options"]["layer"] == 1
    assert len(record["extractors"]["video"]["weights"]) == 2
    assert str(tmp_path) not in str(record)
    assert validate.main([str(out)]) == 0
    assert_same_as_data_set(out, tmp_path / f"tfds/{name}/out/1.0.0", tmp_path)
    if name == "iemocap":
        assert no_face  # the marked actors' half is plain grey
        assert f"video: no face was found in any frame: {len(no_face)} (" in capsys.readouterr().out
