"""Tests of the fence: forbidden actions of a user's network are errors, and its side effects are undone."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from model_zoo import errors
from model_zoo.errors import RefusedError, UserCodeError
from model_zoo.fence import Fenced
from model_zoo.surroundings import libraries_restored
from model_zoo.user_code import user_code

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A linear network with a function applied to its images and one applied to its logits."""

    def __init__(
        self, before: Callable[[torch.Tensor], torch.Tensor] = lambda x: x, after: Callable[[torch.Tensor], object] = lambda z: z
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(192, 10)
        self.before, self.after = before, after
        self.eval().requires_grad_(False)

    def forward(self, images: torch.Tensor) -> object:
        return self.after(self.layer(self.before(images).flatten(1)))


def through_data(x: torch.Tensor) -> torch.Tensor:
    x.data.copy_((x.data * 5).round() / 5)
    return x


def under_no_grad(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        x.mul_(0.5)
    return x


def one_pixel(x: torch.Tensor) -> torch.Tensor:
    x[-1, -1, -1, -1] = 0.0
    return x


def through_numpy(x: torch.Tensor) -> torch.Tensor:
    x.detach().numpy()[:] = 0.25
    return x


@pytest.mark.parametrize("change", [through_data, under_no_grad, one_pixel, through_numpy])
@pytest.mark.parametrize("gradients", [False, True])
def test_writing_to_the_input_images_is_an_error_and_does_not_change_them(
    change: Callable[[torch.Tensor], torch.Tensor], gradients: bool
) -> None:
    images = IMAGES.clone().requires_grad_(gradients)
    with pytest.raises(RefusedError, match="writes to its input images"):
        Fenced(Net(change))(images)
    assert torch.equal(images.detach(), IMAGES)


def test_returned_logits_do_not_share_memory_with_the_network() -> None:
    buffer = torch.zeros(6, 10)

    def into_buffer(logits: torch.Tensor) -> torch.Tensor:
        return buffer[: len(logits)].copy_(logits)

    fenced = Fenced(Net(after=into_buffer))
    logits = fenced(IMAGES)
    expected = logits.clone()
    buffer.zero_()
    assert torch.equal(logits, expected) and torch.allclose(expected, Net()(IMAGES))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floating_types_are_cast_with_their_gradients(kind: torch.dtype) -> None:
    images = IMAGES.clone().requires_grad_(True)
    logits = Fenced(Net(after=lambda z: z.to(kind)))(images)
    assert logits.dtype == torch.float32
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (lambda z: z.argmax(1), r"found \[6\]"),
        (lambda z: z.long(), "floating-point logits expected, found torch.int64"),
        (lambda z: (z,), "found tuple"),
        (lambda z: z[:3], r"found \[3, 10\]"),
        (lambda z: z.to(torch.complex64), "floating-point"),
        (lambda z: z + torch.randn(z.shape), "stochastic"),
        (lambda z: torch.manual_seed(3) and z, "random numbers"),
    ],
)
def test_outputs_other_than_deterministic_logits_are_errors(after: Callable[[torch.Tensor], object], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        Fenced(Net(after=after))(IMAGES)


def test_settings_of_torch_are_restored_and_changing_them_is_an_error() -> None:
    with pytest.raises(RefusedError, match="gradient mode"):
        Fenced(Net(after=lambda z: (torch.set_grad_enabled(False), z)[1]))(IMAGES)
    assert torch.is_grad_enabled()


def raising(error: BaseException) -> Callable[[torch.Tensor], torch.Tensor]:
    def run(x: torch.Tensor) -> torch.Tensor:
        raise error

    return run


class Unprintable(Exception):
    """An exception that cannot be printed."""

    def __str__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    "error", [KeyError("boom"), SystemExit(0), KeyboardInterrupt(), GeneratorExit(), AssertionError("one\ntwo"), Unprintable()]
)
def test_any_exception_is_one_line_with_a_traceback(error: BaseException) -> None:
    with pytest.raises(UserCodeError, match=rf"model failed on images .*{type(error).__name__}.*test_fence\.py, line") as raised:
        Fenced(Net(raising(error)))(IMAGES)
    assert len(str(raised.value).splitlines()) == 1 and "Traceback" in raised.value.trace and "in run" in raised.value.trace


def test_ending_the_process_is_an_exception() -> None:
    end = os._exit
    with pytest.raises(UserCodeError, match=r"os\._exit\(0\)"):
        Fenced(Net(lambda x: os._exit(0)))(IMAGES)
    assert os._exit is end


def test_ctrl_c_interrupts_the_run() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), user_code("test"):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


class DependsOnMode(nn.Module):
    """Returns different logits if a gradient is required."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.flatten(1)[:, :10]
        return logits.flip(1) if images.requires_grad else logits


class DependsOnBatchSize(nn.Module):
    """Returns different logits for large batches."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.flatten(1)[:, :10]
        return logits.flip(1) if len(images) > 4 else logits


class DependsOnCalls(nn.Module):
    """Returns different logits at every other call."""

    calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        logits = images.flatten(1)[:, :10]
        return logits.flip(1) if self.calls % 2 else logits


@pytest.mark.parametrize("kind", [DependsOnMode, DependsOnBatchSize, DependsOnCalls])
def test_an_audit_detects_logits_that_depend_on_the_kind_of_call(kind: type[nn.Module]) -> None:
    with pytest.raises(RefusedError, match="depend"):
        Fenced(kind().eval())(IMAGES.clone().requires_grad_(True))


def test_a_sound_network_passes_every_audit_and_can_be_rebuilt() -> None:
    fenced = Fenced(Net(), Net)
    images = IMAGES.clone().requires_grad_(True)
    expected = Net()(IMAGES)
    for _ in range(130):
        assert torch.allclose(fenced(images), expected)
    fresh = fenced.fresh()
    assert fresh.network is not fenced.network and fresh.state_sha256() == fenced.state_sha256()
    fresh.network.layer.bias.data += 1
    assert fresh.state_sha256() != fenced.state_sha256()


def test_nan_images_are_not_mistaken_for_modified_images() -> None:
    images = IMAGES.clone()
    images[2] = torch.nan
    assert not torch.isfinite(Fenced(Net())(images)[2]).any()


def test_a_backward_pass_into_the_input_images_is_an_error() -> None:
    def backward(z: torch.Tensor) -> torch.Tensor:
        if z.requires_grad:
            z.sum().backward(retain_graph=True)
        return z

    with pytest.raises(RefusedError, match="backward pass into its input"):
        Fenced(Net(after=backward))(IMAGES.clone().requires_grad_(True))


def test_working_folder_and_standard_output_are_restored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def chatty(x: torch.Tensor) -> torch.Tensor:
        print("hello")  # noqa: T201 - what a user's network may do
        os.chdir(tmp_path)
        return x

    before = Path.cwd()
    Fenced(Net(chatty))(IMAGES)
    printed = capsys.readouterr()
    assert Path.cwd() == before and printed.out == "" and "hello" in printed.err


@pytest.mark.parametrize(
    ("owner", "name"), [(torch.Tensor, "argmax"), (nn.functional, "cross_entropy"), (errors, "UserError"), (torch, "isfinite")]
)
def test_replaced_library_functions_are_an_error_and_restored(owner: object, name: str) -> None:
    original = getattr(owner, name)
    with pytest.raises(RefusedError, match=rf"replaces .*{name}"), libraries_restored():
        setattr(owner, name, lambda *arguments: None)
    assert getattr(owner, name) is original
    with libraries_restored():
        owner.harness_test_extra = 1  # type: ignore[attr-defined]
    del owner.harness_test_extra  # type: ignore[attr-defined]
