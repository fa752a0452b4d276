"""Folders of pictures for the door `images`: class folders and label tables, with the class of every picture, or None if rejected."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from tests.fuzz.picture_cases import array

# Class of each picture by the bytes of its pixels, and the names of the classes in order; None if the folder must be rejected.
Expected = tuple[dict[bytes, str], tuple[str, ...]] | None
NAMES = ("cat", "dog", "é", "日本", "a b", "Zebra", "apple", "x,y", "[bold]", "a'b", "10%", "-1", "trainer")


def write_picture(random: Random, path: Path, size: int = 6) -> bytes:
    """Write a picture of size x size pixels and return the bytes of its pixels."""
    pixels = array(random, size, size, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels.tobytes()


def class_folders(random: Random, root: Path) -> Expected:
    """Write one folder per class, with hidden files, other files, subfolders, a class list, or a fault."""
    if random.random() < 0.4:
        names = [str(number) for number in random.sample(range(120), random.randint(2, 12))]
        ordered = sorted(names, key=int)
    else:
        names = random.sample(NAMES, random.randint(2, 6))
        ordered = sorted(names)
    classes = {}
    for name in names:
        for number in range(random.randint(1, 3)):
            inner = random.choice(["", "", "deep/er/"])
            classes[write_picture(random, root / name / f"{inner}{number}.png")] = name
    for litter in random.sample(["__MACOSX/cat/._0.png", ".cache/0.png", ".DS_Store", f"{names[0]}/Thumbs.db", f"{names[0]}/._0.png"], 3):
        (root / litter).parent.mkdir(parents=True, exist_ok=True)
        (root / litter).write_bytes(b"\0\5\26\7")
    for other in random.sample(["notes.txt", "film.mp4", "archive"], random.randint(0, 3)):
        (root / names[0] / other).write_bytes(b"x")
    fault = random.choice(["", "", "list", "list", "list without a folder", "size", "link", "parts", "outer", "control"])
    if fault == "list":
        ordered = random.sample(names, len(names))
        (root / "classes.txt").write_text(random.choice(["\n", "\r\n"]).join(ordered), encoding=random.choice(["utf-8", "utf-8-sig"]))
    elif fault == "list without a folder":
        (root / "classes.txt").write_text("\n".join([*names, "absent"]), encoding="utf-8")
    elif fault == "size":
        write_picture(random, root / names[0] / "z.png", 7)
    elif fault == "link":
        (root / "loop").symlink_to(random.choice([root, root.parent]))
    elif fault == "parts":
        write_picture(random, root / random.choice(["train", "Val", "test"]) / "cat" / "0.png")
    elif fault == "outer":
        outer = root.rename(root.parent / "moved")
        root.mkdir()
        outer.rename(root / "pictures")
    elif fault == "control":
        write_picture(random, root / "a\nb" / "0.png")
    return (classes, tuple(ordered)) if fault in ("", "list") else None


def table_of_labels(random: Random, root: Path) -> Expected:
    """Write pictures with labels.csv, with or without classes.txt, or with a fault in one of the two."""
    names = [f"{random.choice(['', 'deep/'])}{stem}.png" for stem in random.sample(["a", "b c", "é", "日", "x,y", "10", "q'q"], 5)]
    pixels = {name: write_picture(random, root / name) for name in names}
    kind = random.choice(["names", "indices", "listed names", "listed indices"])
    class_names = random.sample(NAMES[:9], 3)
    indices = [0, 2, 1, *(random.randrange(3) for _ in names[3:])]
    if kind == "names":
        class_names = sorted(class_names)
    elif kind == "indices":
        class_names = ["0", "1", "2"]
    texts = [str(index) if kind.endswith("indices") else class_names[index] for index in indices]
    if kind.startswith("listed"):
        (root / "classes.txt").write_text("\n".join(class_names), encoding="utf-8")
    rows = [[name, text] for name, text in zip(names, texts, strict=True)]
    fault = random.choice(
        ["", "", "", "absent", "outside", "twice", "cells", "label", "negative", "float", "encoding", "mixed", "empty", "page"]
    )
    row = random.choice(rows)
    changes = {
        "absent": lambda: row.__setitem__(0, "absent.png"),
        "outside": lambda: row.__setitem__(0, f"../{root.name}/{row[0]}"),
        "twice": lambda: rows.append(list(row)),
        "cells": lambda: row.append("1"),
        "label": lambda: row.__setitem__(1, ""),
        "negative": lambda: row.__setitem__(1, "-1"),
        "float": lambda: row.__setitem__(1, "0.5"),
        "mixed": lambda: row.__setitem__(1, "7" if kind == "names" else "wasp"),
        "empty": rows.clear,
    }
    if fault in changes:
        changes[fault]()
    separator = random.choice(",;\t")
    lines = [separator.join(f'"{cell}"' if random.random() < 0.3 or separator in cell else cell for cell in cells) for cells in rows]
    header = random.choice(["", f"file{separator}label", f"Filename{separator}class"])
    content = "\n".join([header, *lines] if header else lines).encode(random.choice(["utf-8", "utf-8-sig"]))
    if fault == "encoding":
        content = content.replace(b".png", b".png\xff", 1)
    elif fault == "page":
        content = b"<!DOCTYPE html><html></html>"
    (root / "labels.csv").write_bytes(content)
    if fault:
        return None
    return {pixels[name]: class_names[index] for name, index in zip(names, indices, strict=True)}, tuple(class_names)


def as_expected(images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> tuple[dict[bytes, str], tuple[str, ...]]:
    """Return images that were read in the form of `Expected`."""
    return {image.tobytes(): classes[label] for image, label in zip(images, labels, strict=True)}, classes
