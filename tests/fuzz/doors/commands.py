"""Door `commands`: commands on networks whose code raises, exits, prints, returns something else or changes settings, at once or later."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from random import Random

from tests.fuzz.doors.networks import CHANGES, DEFAULTS, FILE, RAISES, RESULTS, process_state, restore
from tests.fuzz.frame import Door, check_accepted, check_line, command, store_problems

RUN = ("run", "--attack", "pgd-20", "--n", "4", "--workers", "1")
COMPARE = ("compare", "--against", "cifar10-rn8s29-dense", "--suite", "smoke", "--n", "4", "--workers", "1")
ADD = ("add", "--id", "mine", "--family", "dense", "--method", "x", "--weight-bits", "32", "--dataset", "cifar10", "--radius", "8/255")
# Statements of a call that must be refused, with words of the message; those that a call changes without harm come from `networks`.
HARMS = {
    "images.data.mul_(0.5)": "writes to its input",
    "images.data.copy_((images.data * 7).round() / 7)": "writes to its input",
    "images.detach().zero_()": "writes to its input",
    "torch.set_default_dtype(torch.float64)": "default type",
    "torch.rand(1), np.random.rand(), random.random()": "random",
    "torch.set_grad_enabled(False)": "gradient",
    "images.backward(torch.ones_like(images)) if images.requires_grad else None": "",
}
# Results that are logits, of which some or all make no sense: the outcome counts as broken, or the model is refused.
SENSELESS = (
    "logits * float('nan')",
    "logits * float('inf')",
    "logits.double() * 1e300",
    "torch.where(logits > 0, logits, float('nan'))",
    "logits + torch.rand_like(logits)",
    "logits[:, :1]",
    "logits[:, :3]",
    "torch.zeros_like(logits) + 0 * logits",
)


def case(random: Random, folder: Path) -> None:
    """Give one file to one command: it must fail with one line per failed unit, and leave this process and the store in order."""
    kind = random.choice(("raises", "raises", "harm", "change", "result", "senseless", "import"))
    words, moment = "", random.choice((0, 0, 1, 2, 5, 12, 40))
    fields = {}
    if kind == "raises":
        statement, words = random.choice(list(RAISES.items()))
    elif kind == "harm":
        statement, words = random.choice(list(HARMS.items()))
    elif kind == "change":
        statement = random.choice(CHANGES)
    elif kind == "import":
        statement, words = random.choice(list(RAISES.items()))
        fields = {random.choice(("imported", "made")): statement}
        statement = "pass"
    else:
        statement = "pass"
        result, words = random.choice(list(RESULTS.items())) if kind == "result" else (random.choice(SENSELESS), "")
        fields = {"result": f"({result}) if self.calls > {moment} else logits"}
    if random.random() < 0.2:
        statement = f"print('\\x1b[31m' * 1000); {statement}"
    fields["called"] = f"self.calls = vars(self).get('calls', 0) + 1\n        if self.calls > {moment}: {statement}"
    path = folder / random.choice(["net.py", "my-net.py", "harness.py"])
    path.write_text(FILE.format(**{**DEFAULTS, **fields}))
    first, *options = random.choice((RUN, COMPARE, ADD))
    words_of_command = {
        "run": ("--model", f"{path}:make", "--store", folder / "results", "--reports", folder / "reports"),
        "compare": (f"{path}:make", "--store", folder / "results"),
        "add": (f"{path}:make", "--out", folder / "added"),
    }[first]
    _warm_up()
    before = process_state()
    result = command(first, *words_of_command, *options)
    after = process_state()
    changed = [name for name in before if before[name] != after[name]]
    restore(before)
    label = f"{first} with {fields}"
    assert not changed, f"{label}: not as before: {changed}"
    assert result.exception is None or isinstance(result.exception, SystemExit), f"{label}: {result.exception!r}"
    assert "Traceback" not in result.stderr, f"{label}: {result.stderr[-2000:]}"
    assert result.exit_code in (0, 1, 2), f"{label}: status {result.exit_code}"
    if first != "add":
        assert not (problems := damage_of(folder / "results")), f"{label}: {problems}"
    lines = [line for line in result.stderr.splitlines() if line.startswith(("harness: ", "failed: "))]
    for line in lines:
        check_line(line, "")
    if first == "run":
        # Such a file is not even opened.
        words = "has no record"
    elif kind == "result" and moment:
        # Attacks may notice it first, and call it something else.
        words = ""
    if result.exit_code and not (first == "compare" and "verdict" in result.stdout.lower()):
        assert lines, f"{label}: no line: {result.stderr[-1000:]!r}"
        assert any(words in line for line in lines), f"{label}: {words!r} is expected in {lines}"
    is_called = moment < (3 if first == "add" else 6)
    if kind in ("raises", "harm", "result") and is_called:
        assert result.exit_code, f"{label}: accepted: {result.stdout[-500:]}"
    if kind == "import":
        assert result.exit_code, f"{label}: accepted"


@cache
def _warm_up() -> None:
    """Add a network that works: libraries draw a random number in another thread when they are first used."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.py"
        path.write_text(FILE.format(**DEFAULTS))
        check_accepted(command(ADD[0], f"{path}:make", "--out", Path(folder) / "added", *ADD[1:]))


def damage_of(store: Path) -> list[str]:
    """Return what is wrong with a store that may not exist."""
    return store_problems(store) if store.is_dir() else []


DOOR = Door("commands", full=200, ci=1, case=case, seconds=600)
