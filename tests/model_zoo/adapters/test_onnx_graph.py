"""Tests of many kinds of ONNX files: each is loaded or is an error with the right reason."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_zoo.adapters.exported import load_onnx, to_onnx
from model_zoo.adapters.preprocessing import NO_PREPROCESSING, PreprocessedNetwork, Preprocessing
from model_zoo.errors import DamagedFileError, UserError
from model_zoo.references import parse

pytestmark = pytest.mark.needs_onnx

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(8, 3, 5, 5)).astype(np.float32)
LAST = (RANDOM.normal(size=(10, 392)) / 20).astype(np.float32)
WEIGHTS = {"W": WEIGHT, "L": LAST}
X = torch.from_numpy(RANDOM.integers(0, 256, (5, 3, 32, 32))).float() / 255


def save(
    path: Path,
    nodes: Sequence[Any],
    weights: dict[str, np.ndarray] = WEIGHTS,
    shape: Sequence[int | str] = ("N", 3, 32, 32),
    kind: int = 1,
    extra_outputs: Sequence[Any] = (),
    batch: int | str = "N",
    output_kind: int = 1,
) -> Path:
    import onnx
    from onnx import helper, numpy_helper

    outputs = [helper.make_tensor_value_info("y", output_kind, [batch, 10]), *extra_outputs]
    initial = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(list(nodes), "g", [helper.make_tensor_value_info("x", kind, list(shape))], outputs, initial)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, list(inputs), [output], **attributes)


def convolution(source: str, weight: str = "W") -> Any:
    return node("Conv", [source, weight], "c", strides=[4, 4], kernel_shape=[5, 5])


def tail(source: str = "c") -> list[Any]:
    return [node("Relu", [source], "r"), node("Flatten", ["r"], "f"), node("Gemm", ["f", "L"], "y", transB=1)]


def logits(images: torch.Tensor) -> torch.Tensor:
    hidden = torch.nn.functional.conv2d(images, torch.from_numpy(WEIGHT), stride=4).relu()
    return hidden.flatten(1) @ torch.from_numpy(LAST).T


def second_output() -> Any:
    from onnx import helper

    return helper.make_tensor_value_info("r", 1, ["N", 8, 7, 7])


def test_integer_images_need_a_scale(tmp_path: Path) -> None:
    path = save(tmp_path / "n.onnx", [node("Cast", ["x"], "xf", to=1), convolution("xf"), *tail()], kind=2)
    with pytest.raises(UserError, match=r"whole numbers.*--scale 255"):
        load_onnx(path)
    module = load_onnx(path, Preprocessing(scale=255.0)).module
    assert torch.allclose(module(X), logits(255 * X), rtol=1e-4, atol=1e-3)
    point = X.clone().requires_grad_(True)
    assert torch.autograd.grad(module(point).sum(), point)[0].abs().sum() > 0


def test_one_of_several_outputs_must_be_named(tmp_path: Path) -> None:
    path = save(tmp_path / "n.onnx", [convolution("x"), *tail()], extra_outputs=[second_output()])
    with pytest.raises(UserError, match=r"2 outputs \(y, r\).*--output NAME"):
        load_onnx(path)
    with pytest.raises(UserError, match=r"no output 'z'; it has y, r"):
        load_onnx(path, Preprocessing(output="z"))
    assert torch.allclose(load_onnx(path, Preprocessing(output="y")).module(X), logits(X), atol=1e-4)


def test_channels_last_must_be_declared(tmp_path: Path) -> None:
    nodes = [node("Transpose", ["x"], "t", perm=[0, 3, 1, 2]), convolution("t"), *tail()]
    last, first = save(tmp_path / "l.onnx", nodes, shape=("N", 32, 32, 3)), save(tmp_path / "f.onnx", [convolution("x"), *tail()])
    with pytest.raises(UserError, match=r"channels last.*--channels-last"):
        load_onnx(last)
    with pytest.raises(UserError, match=r"--channels-last is wrong.*channels first"):
        load_onnx(first, Preprocessing(channels_last=True))
    assert torch.allclose(load_onnx(last, Preprocessing(channels_last=True)).module(X), logits(X), atol=1e-4)


def test_quantised_weights_are_read_and_quantised_activations_are_an_error(tmp_path: Path) -> None:
    scale = np.float32(np.abs(WEIGHT).max() / 127)
    quantised = {"Wq": np.round(WEIGHT / scale).astype(np.int8), "s": np.asarray(scale), "z": np.asarray(np.int8(0)), "L": LAST}
    dequantise = node("DequantizeLinear", ["Wq", "s", "z"], "Wd")
    path = save(tmp_path / "w.onnx", [dequantise, convolution("x", "Wd"), *tail()], quantised)
    assert (load_onnx(path).module(X) - logits(X)).abs().max() < 0.05 * logits(X).abs().max()
    rounded = [node("QuantizeLinear", ["c", "s", "z"], "q"), node("DequantizeLinear", ["q", "s", "z"], "d")]
    path = save(tmp_path / "a.onnx", [dequantise, convolution("x", "Wd"), *rounded, *tail("d")], quantised)
    with pytest.raises(UserError, match=r"quantised \(QuantizeLinear\)"):
        load_onnx(path)


def test_a_fixed_batch_size_is_respected(tmp_path: Path) -> None:
    flat = [node("Relu", ["c"], "r"), node("Reshape", ["r", "size"], "f"), node("Gemm", ["f", "L"], "y", transB=1)]
    for batch in (1, 4):
        weights = {**WEIGHTS, "size": np.array([batch, 392])}
        path = save(tmp_path / f"{batch}.onnx", [convolution("x"), *flat], weights, (batch, 3, 32, 32), batch=batch)
        module = load_onnx(path).module
        assert torch.allclose(module(X), logits(X), atol=1e-4) and module(X[:1]).shape == (1, 10)
        assert parse(str(path)).open()[0].classes == 10


def test_half_precision_networks_are_supported(tmp_path: Path) -> None:
    halved = {name: array.astype(np.float16) for name, array in WEIGHTS.items()}
    path = save(tmp_path / "h.onnx", [convolution("x"), *tail()], halved, kind=10, output_kind=10)
    module = load_onnx(path).module
    assert module(X).dtype == torch.float32 and torch.allclose(module(X), logits(X), atol=0.05)


def test_dynamic_image_sizes_are_supported(tmp_path: Path) -> None:
    path = save(tmp_path / "n.onnx", [convolution("x"), *tail()], shape=("N", 3, "H", "W"))
    assert torch.allclose(load_onnx(path).module(X), logits(X), atol=1e-4)


def test_a_loop_is_an_error_before_it_runs(tmp_path: Path) -> None:
    from onnx import helper

    condition = [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("go", 9, [])]
    loop_input, loop_output = helper.make_tensor_value_info("v", 1, ["N", 10]), helper.make_tensor_value_info("w", 1, ["N", 10])
    body = helper.make_graph(
        [node("Identity", ["go"], "on"), node("Identity", ["v"], "w")],
        "body",
        [*condition, loop_input],
        [helper.make_tensor_value_info("on", 9, []), loop_output],
    )
    nodes = [convolution("x"), node("Relu", ["c"], "r"), node("Flatten", ["r"], "f"), node("Gemm", ["f", "L"], "l", transB=1)]
    loop = node("Loop", ["", "yes", "l"], "y", body=body)
    with pytest.raises(UserError, match=r"loop \(Loop\)"):
        load_onnx(save(tmp_path / "n.onnx", [*nodes, loop], {**WEIGHTS, "yes": np.array(True)}))


def test_a_second_input_is_an_error(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    path = save(tmp_path / "n.onnx", [convolution("x"), *tail()])
    graph = onnx.load(path)
    graph.graph.input.append(helper.make_tensor_value_info("mask", 1, ["N", 10]))
    onnx.save(graph, path)
    with pytest.raises(UserError, match=r"2 inputs \(x, mask\)"):
        load_onnx(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"<html>sign in</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\x80\x02}q\x00.", "a pickle"),
    ],
)
def test_a_file_of_another_kind_is_an_error_that_names_the_kind(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "n.onnx").write_bytes(content)
    with pytest.raises(DamagedFileError, match=words):
        load_onnx(tmp_path / "n.onnx")


def test_preprocessing_is_part_of_the_identity(tmp_path: Path) -> None:
    path = save(tmp_path / "n.onnx", [convolution("x"), *tail()])
    preprocessing = Preprocessing(255.0, (127.5,), (60.0, 61.5, 62.0), False, "y")
    assert (
        Preprocessing.from_text(preprocessing.to_text().removeprefix("?")) == preprocessing
        and Preprocessing.from_text("") == NO_PREPROCESSING
    )
    plain, preprocessed = parse(str(path)).open(), parse(str(path), preprocessing=preprocessing).open()
    assert plain[0].id != preprocessed[0].id and plain[0].architecture == {
        name: value for name, value in preprocessed[0].architecture.items() if name != "outside"
    }
    expected = logits((255 * X - 127.5) / torch.tensor([60.0, 61.5, 62.0]).view(3, 1, 1))
    assert torch.allclose(preprocessed[1](X), expected, rtol=1e-3, atol=1e-3)
    for text in ("scale=x", "size=3", "scale=0", "mean=1,2", "std=0"):
        with pytest.raises(UserError, match=r"scale|mean"):
            Preprocessing.from_text(text)


def test_the_last_batch_is_padded_to_the_fixed_size() -> None:
    class BatchOfFour(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert len(images) == 4
            return images.flatten(1)[:, :3]

    network = PreprocessedNetwork(BatchOfFour(), NO_PREPROCESSING, torch.float32, 4, 0)
    assert torch.equal(network(X), X.flatten(1)[:, :3])


def test_written_files_contain_no_local_paths(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5, 4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(196, 10)).eval()
    content = to_onnx(model, X)
    assert str(Path(__file__).parent).encode() not in content and b".py" not in content and b"stack_trace" not in content
