"""Tests that controllers store the state of methods outside networks, and restore it."""

from typing import ClassVar

import pytest
import torch

from model_zoo.families import families
from model_zoo.training.building import build, build_model
from model_zoo.training.controller import Controller
from tests.model_zoo.families.runs import tiny

# Names of the tensors that controllers store, by family; other families store none.
STORED = {
    "atmc": {"targets", "duals", "codes", "steps", "stage"},
    "bcs": {"steps"},
    "flying-bird": {"steps"},
    "flying-bird-plus": {"steps", "overfits", "falls"},
    "harp": {"stage"},
    "hydra": {"stage"},
    "lwm": {"stage"},
    "robust-bird": {"masks", "compared", "steps", "found"},
}


class Counting(Controller):
    stored: ClassVar[tuple[str, ...]] = ("steps", "values")

    def __init__(self) -> None:
        self.steps, self.values = torch.zeros((), dtype=torch.long), torch.zeros(3)

    def after_step(self, progress: float) -> None:
        self.steps += 1
        self.values += progress


def test_the_base_controller_does_nothing() -> None:
    plain = Controller()
    plain.at_epoch(0, 1)
    plain.after_step(0.5)
    plain.after_epoch([])
    assert plain.penalty() == 0.0 and not plain.on_clean() and plain.state() == {}
    plain.restore({})


def test_the_state_is_a_copy_and_can_be_restored() -> None:
    first, second = Counting(), Counting()
    first.after_step(0.5)
    state = first.state()
    first.after_step(1.0)
    second.restore(state)
    second.after_step(1.0)
    assert int(state["steps"]) == 1 and int(second.steps) == 2
    assert torch.equal(first.values, second.values)
    assert int(state["steps"]) == 1 and float(state["values"][0]) == 0.5


@pytest.mark.parametrize(
    "state", [{}, {"steps": torch.zeros(())}, {"steps": torch.zeros(()), "values": torch.zeros(3), "more": torch.zeros(())}]
)
def test_a_state_of_another_controller_is_an_error(state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="needs the state"):
        Counting().restore(state)
    with pytest.raises(ValueError, match="shape"):
        Counting().restore({"steps": torch.zeros(()), "values": torch.zeros(4)})


@pytest.mark.parametrize("name", sorted(families()))
def test_networks_contain_weights_and_no_state_of_the_method(name: str) -> None:
    model, controller = build(tiny(name))
    assert set(controller.state()) == STORED.get(name, set())
    assert {key.split(".")[0] for key in model.state_dict()} == {"network"}
    assert not any(key.endswith((".stage", ".steps")) for key in model.state_dict())
    rebuilt = build_model(tiny(name)).state_dict()
    assert all(torch.equal(rebuilt[key], tensor) for key, tensor in model.state_dict().items())


def test_stored_tensors_move_to_the_device_and_scalars_stay() -> None:
    counting = Counting()
    counting.to(torch.device("meta"))
    assert counting.values.device.type == "meta" and counting.steps.device.type == "cpu"
