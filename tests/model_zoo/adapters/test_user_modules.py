"""Tests of the imports of users' files: relative imports work, and two folders with the same names do not mix."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model_zoo.errors import UserError
from model_zoo.references import parse

PARTS = "from torch import nn\n\ndef layers():\n    return nn.Conv2d(3, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(196, {classes})\n"
NET = "from torch import nn\nfrom {parts} import layers\n\ndef make():\n    return nn.Sequential(*layers())\n"


@pytest.mark.parametrize(
    ("file", "helper", "parts", "packages"),
    [
        ("net.py", "parts.py", ".parts", []),
        ("net.py", "inner/parts.py", ".inner.parts", []),
        ("pack/net.py", "pack/parts.py", ".parts", ["pack"]),
        ("pack/net.py", "pack/parts.py", "pack.parts", ["pack"]),
        ("pack/inner/net.py", "pack/parts.py", "..parts", ["pack", "pack/inner"]),
        ("model_zoo/net.py", "model_zoo/parts.py", ".parts", ["model_zoo"]),
    ],
)
def test_relative_imports_work_and_folders_do_not_mix(file: str, helper: str, parts: str, packages: list[str], tmp_path: Path) -> None:
    opened = {}
    for classes in (10, 100):
        folder = tmp_path / f"of {classes}"
        for name in (file, helper):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(NET.format(parts=parts))
        (folder / helper).write_text(PARTS.format(classes=classes))
        for package in packages:
            (folder / package / "__init__.py").touch()
        opened[classes] = parse(f"{folder / file}:make").open()
    assert not [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", None))]
    assert {classes: description.classes for classes, (description, _) in opened.items()} == {10: 10, 100: 100}
    for _, network in opened.values():
        network(torch.rand(2, 3, 32, 32))


def test_a_relative_import_beyond_the_package_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from ..parts import layers\n")
    with pytest.raises(UserError, match=r"net\.py.*beyond top-level package") as raised:
        parse(f"{tmp_path}/net.py:make").open()
    assert len(str(raised.value).splitlines()) == 1


def test_a_relative_import_is_part_of_the_identity_and_the_folder_is_not(tmp_path: Path) -> None:
    ids = []
    for folder, comment in (("one", ""), ("two", ""), ("three", "# other")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(NET.format(parts=".parts"))
        (tmp_path / folder / "parts.py").write_text(PARTS.format(classes=10) + comment)
        ids.append(parse(f"{tmp_path / folder}/net.py:make").describe().id)
    assert ids[0] == ids[1] != ids[2]


CLASSES = """
import abc, dataclasses, enum, functools, typing
from pathlib import Path
import torch
from torch import nn

class Kind(enum.Enum):
    ONE = 1

class Size(typing.NamedTuple):
    width: int = 4

@dataclasses.dataclass
class Settings:
    kind: Kind = Kind.ONE
    size: Size = Size()
    layers: list = dataclasses.field(default_factory=list)

class Slotted:
    __slots__ = ("value",)

class Step(torch.autograd.Function):
    @staticmethod
    def forward(context, images):
        return images.sign()

    @staticmethod
    def backward(context, gradient):
        return gradient

class Base(nn.Module, abc.ABC):
    step = Step
    types = list[Settings], typing.Optional[Size]

    @functools.cached_property
    def width(self):
        return self.settings.size.width

class Net(Base):
    factor = {factor}

    def __init__(self):
        super().__init__()
        self.settings, self.slotted, self.folder, self.file = Settings(), Slotted(), Path(__file__).parent, __file__
        self.body = nn.Sequential(nn.Conv2d(3, self.width, 5, 4), nn.Flatten(), nn.Linear(196, 10))
        self.text = repr(self.folder) + repr(list[Net])

    def forward(self, images):
        return self.factor * self.body(Step.apply(images))

def make():
    return Net()
"""
IDENTITY = "import sys; from model_zoo.references import parse; print(parse(sys.argv[1]).describe().architecture['code'])"


def test_the_identity_of_classes_does_not_depend_on_the_folder_or_the_process(tmp_path: Path) -> None:
    codes = []
    for folder, factor in (("one", "1"), ("two/deep", "1"), ("three", "2")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "net.py").write_text(CLASSES.replace("{factor}", factor))
        codes.append(parse(f"{tmp_path / folder}/net.py:make").describe().architecture["code"])
    command = [sys.executable, "-c", IDENTITY, f"{tmp_path}/two/deep/net.py:make"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.stdout.strip(), done.returncode) == (codes[0], 0), done.stderr
    assert codes[0] == codes[1] != codes[2]


def test_an_attribute_of_a_class_that_is_set_from_outside_is_part_of_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text("import os\n" + CLASSES.replace("{factor}", "float(os.environ['FACTOR'])"))
    codes = []
    for factor in ("1", "2", "1"):
        monkeypatch.setenv("FACTOR", factor)
        codes.append(parse(f"{tmp_path}/net.py:make").describe().architecture["code"])
    assert codes[0] == codes[2] != codes[1]
