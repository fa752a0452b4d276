"""Tests of executors: all give the same outcomes, and a run survives dead workers, a full disk and lack of memory."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from harness.cli import run as run_command
from harness.cli.options import executor_options
from harness.runner import executors, work
from harness.runner import store as store_module
from harness.runner.execute import EXISTING, Event, choose_executor, execute
from harness.runner.executors import processes
from harness.runner.plan import Plan, plan_request
from harness.runner.store import Store
from harness.runner.work import run_unit
from model_zoo.errors import UnknownNameError, UsageError

MODELS = ["cifar10-rn8w32-pruned-binary-k05-p01", "cifar10-rn8s29-dense-binary"]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_request(MODELS, ["cw-linf", "pgd-20"], "cifar10-sample", 6)


@pytest.fixture(scope="module")
def finished(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    assert len(execute(plan, store).finished) == 4
    return store


def have_same_outcomes(plan: Plan, first: Store, second: Store) -> bool:
    return all(first.read(unit.id).table.equals(second.read(unit.id).table) for unit in plan.units)


def test_executors_are_selected_by_name() -> None:
    assert {"in-process", "processes", "ray"} <= set(executors.names())
    with pytest.raises(UnknownNameError, match="processes"):
        executors.get("proceses")


def test_the_former_name_of_an_executor_works_with_a_hint() -> None:
    @click.command()
    @executor_options
    def command(executor: str, **options: object) -> None:
        click.echo(f"runs {executor}")

    result = CliRunner().invoke(command, ["--executor", "here"])
    assert result.stdout == "runs in-process\n" and "executor `here` is now `in-process`" in result.stderr
    assert choose_executor("here", 1, executors.Resources()) == "in-process"


def test_the_command_offers_the_choices_of_the_executor() -> None:
    assert tuple(EXISTING) == run_command.EXISTING


@pytest.mark.needs_ray
def test_ray_gives_the_same_outcomes_and_survives_a_dead_worker(plan: Plan, finished: Store, tmp_path: Path) -> None:
    store, killed = Store(tmp_path), []

    def kill(event: Event) -> None:
        """Kill the worker of a running unit, once."""
        for claim in store.claims.running():
            if not killed:
                killed.append(claim.pid)
                os.kill(claim.pid, signal.SIGKILL)

    report = execute(plan, store, kill, 2, executor="ray")
    assert len(report.finished) + len(report.stored) == 4 and not report.failed
    assert killed and have_same_outcomes(plan, store, finished)


@pytest.mark.needs_ray
def test_a_request_that_the_ray_cluster_cannot_place_is_an_error(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="GPU"):
        execute(plan, Store(tmp_path), workers=1, executor="ray", gpus=0.5)


def test_cuda_is_an_error_without_a_cuda_device(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device"):
        execute(plan, Store(tmp_path), device="cuda")
    with pytest.raises(UsageError, match="gpus-per-unit"):
        execute(plan, Store(tmp_path), device="cuda", executor="ray")


def test_a_unit_is_retried_when_its_worker_dies_and_fails_after_three_deaths(
    plan: Plan, finished: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "run_unit", run_or_kill_worker)
    monkeypatch.setenv("DIED", str(tmp_path / "died"))
    store = Store(tmp_path / "store")
    report = execute(plan, store, workers=2)
    assert [(unit.model, unit.attack.name) for unit, _ in report.failed] == [(MODELS[0], "pgd-20")]
    assert "worker died 3 times" in report.failed[0][1] and list(store.failures()) == [report.failed[0][0].id]
    assert (tmp_path / "died").exists() and len(report.finished) == 3
    assert have_same_outcomes(Plan(tuple(report.finished)), store, finished)


def run_or_kill_worker(unit, store, progress, rerun, device):
    """Run a unit in a worker; kill the worker at every attempt of one unit, and at the first attempt of another."""
    died = Path(os.environ["DIED"])
    if unit.attack.name == "pgd-20" and (unit.model == MODELS[0] or not died.exists()):
        if unit.model != MODELS[0]:
            died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return run_unit(unit, store, progress, rerun, device)


def test_a_full_disk_stops_the_run_and_loses_no_outcome(
    plan: Plan, finished: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file, suffixes = store_module.place, []

    def fail_after_first_manifest(path: Path, content: bytes) -> None:
        suffixes.append(path.suffix)
        if ".json" in suffixes[:-1]:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_file(path, content)

    monkeypatch.setattr(store_module, "place", fail_after_first_manifest)
    store = Store(tmp_path)
    report = execute(plan, store)
    assert len(report.finished) == 1 and len(report.failed) == 1 and len(report.not_run) == 2
    assert "No space left" in report.failed[0][1]
    monkeypatch.setattr(store_module, "place", write_file)
    report = execute(plan, store)
    assert len(report.stored) == 1 and len(report.finished) == 3 and have_same_outcomes(plan, store, finished)


def test_a_unit_claimed_by_another_run_is_awaited_and_not_repeated(plan: Plan, finished: Store, tmp_path: Path) -> None:
    store, kinds, reports = Store(tmp_path), [], []
    unit = plan.units[0]
    with store.claims.claimed(unit.id):
        waiting = threading.Thread(
            target=lambda: reports.append(execute(Plan((unit,)), store, lambda event: kinds.append(event.kind), wait=0.05))
        )
        waiting.start()
        for _ in range(200):
            if "waiting" in kinds:
                break
            time.sleep(0.05)
        store.units.mkdir()
        for path in finished.units.glob(f"{unit.id}.*"):
            (store.units / path.name).write_bytes(path.read_bytes())
    waiting.join()
    assert "waiting" in kinds and reports[0].stored == [unit] and not reports[0].finished


@pytest.mark.parametrize(
    ("existing", "n_run", "n_stored"), [("only-missing", 1, 3), ("always", 4, 0), ("never", 1, 3), ("only-cache", 0, 3)]
)
def test_choices_for_existing_outcomes(existing: str, n_run: int, n_stored: int, plan: Plan, finished: Store, tmp_path: Path) -> None:
    (tmp_path / "units").mkdir()
    for path in finished.units.iterdir():
        if path.stem != plan.units[0].id:
            (tmp_path / "units" / path.name).write_bytes(path.read_bytes())
    report = execute(plan, Store(tmp_path), existing=existing)
    assert (len(report.finished), len(report.stored)) == (n_run, n_stored)
    assert len(report.not_run) == (1 if existing == "only-cache" else 0)


def test_never_repeats_no_unit_with_outcomes_of_fewer_images(plan: Plan, finished: Store) -> None:
    more = plan_request(MODELS[:1], ["cw-linf"], "cifar10-sample", 9)
    assert len(execute(more, finished, existing="never").stored) == 1


def test_control_c_prints_how_to_continue_and_exits_with_130(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness.cli.main", "run", "--suite", "quick", "--workers", "2", "--store", str(tmp_path / "s")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    units = tmp_path / "s" / "units"
    for _ in range(600):
        if list((tmp_path / "s").glob("claims/*.json")):
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "The same command continues" in stderr and "Traceback" not in stderr
    time.sleep(0.5)
    assert not list(units.glob(".*.tmp")) and all(json.loads(path.read_text()) for path in units.glob("*.json"))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError(), RuntimeError("not enough memory: you tried")]
)
def test_out_of_memory_is_reported_and_fails_one_unit(
    error: Exception, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = work.evaluate_unit

    def raise_for_pgd_20(model, block, threat, spec, *args, **kwargs):
        if spec.name == "pgd-20":
            raise error
        return evaluate(model, block, threat, spec, *args, **kwargs)

    monkeypatch.setattr(work, "evaluate_unit", raise_for_pgd_20)
    store = Store(tmp_path)
    report = execute(plan, store)
    assert len(report.finished) == 2 and len(report.failed) == 2
    assert all("out of memory with a batch of 6 images" in line for _, line in report.failed)
    assert set(store.failures()) == {unit.id for unit, _ in report.failed}
