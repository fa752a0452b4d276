"""Tests of the imports of users' files: relative imports work, and two folders with the same names do not mix."""

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
