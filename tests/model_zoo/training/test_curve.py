"""Tests of training curves: CSV columns, and restoring stored records."""

import csv
import dataclasses
import io
import math

from model_zoo.training.curve import EpochRecord, curve_csv

PLAIN = EpochRecord(1, 0.1, 2.0, 0.3, math.nan, math.nan, 10.0)
TESTED = EpochRecord(2, 0.1, 1.5, 0.4, 0.5, 0.4, 20.0, 0.45, 0.35)


def test_test_columns_are_present_if_any_epoch_has_them() -> None:
    header = "epoch,learning_rate,train_loss,train_robust_accuracy,hold_out_clean_accuracy,hold_out_pgd_accuracy,seconds"
    assert curve_csv([PLAIN]) == f"{header}\n1,0.1,2,0.3,nan,nan,10\n"
    rows = list(csv.DictReader(io.StringIO(curve_csv([PLAIN, TESTED]))))
    assert list(rows[0]) == [*header.split(","), "test_clean_accuracy", "test_pgd_accuracy"]
    assert (rows[0]["test_pgd_accuracy"], rows[1]["test_pgd_accuracy"]) == ("nan", "0.35")


def test_a_restored_record_equals_the_stored_one() -> None:
    for record in (PLAIN, TESTED):
        fields = {name: float("nan") if value != value else value for name, value in dataclasses.asdict(record).items()}
        assert EpochRecord.restored(fields) == record
    old = {name: value for name, value in dataclasses.asdict(PLAIN).items() if not name.startswith("test_")}
    assert EpochRecord.restored(old) == PLAIN
