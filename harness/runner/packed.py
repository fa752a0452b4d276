"""Packed form of a store: every outcome in `outcomes.parquet`, every manifest and diagnosis in `manifests.json.zst`.

A packed store holds two files where a working store holds two per unit. Its rows are sorted by unit, so that a unit is a slice. The
manifests are written after the outcomes and hold a hash of each unit's rows: if packing is interrupted, the older manifests still
describe rows that the newer outcomes contain.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from harness.evaluation.outcomes import SCHEMA, check_columns, check_outcomes
from harness.runner.compressed import file_stamp, read_compressed, write_compressed
from harness.runner.documents import DiagnosisDocument, Manifest, Part
from harness.runner.tables import read_parquet
from model_zoo.documents import validated
from model_zoo.errors import DamagedFileError
from model_zoo.files import place

OUTCOMES, MANIFESTS = "outcomes.parquet", "manifests.json.zst"
PACK_VERSION = 1
_UNIT_TYPE = pa.dictionary(pa.int32(), pa.string())


class _PackEntry(Part):
    manifest: dict[str, Any]
    rows_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _PackContent(Part):
    units: tuple[_PackEntry, ...]
    diagnoses: dict[str, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Pack:
    """The packed units and diagnoses of a folder.

    Attributes
    ----------
    manifests : mapping of str to Manifest
        By unit.
    rows_sha256 : mapping of str to str
        `rows_sha256` of each unit's outcomes, by unit.
    diagnoses : mapping of str to DiagnosisDocument
        By the hash of their identity.
    """

    folder: Path
    manifests: Mapping[str, Manifest]
    rows_sha256: Mapping[str, str]
    diagnoses: Mapping[str, DiagnosisDocument]

    def table(self, unit: str) -> pa.Table:
        """Return the outcomes of a packed unit, with the columns of `outcomes.SCHEMA`.

        Raises
        ------
        DamagedFileError
            If the outcomes cannot be read, or are not the ones that were packed.
        """
        path = self.folder / OUTCOMES
        start, length = self._slices.get(unit, (0, 0))
        table, images = self._rows.slice(start, length), self.manifests[unit].images
        fault = check_outcomes(table, images)
        if fault is not None:
            raise DamagedFileError(path, f"packed outcomes of {images} images of unit {unit[:12]}", fault)
        if rows_sha256(table) != self.rows_sha256[unit]:
            raise DamagedFileError(path, f"the outcomes of unit {unit[:12]} that were packed", f"{length} other rows")
        return table

    def check(self) -> None:
        """Check the outcomes of every packed unit; raises the same errors as `table`."""
        for unit in self.manifests:
            self.table(unit)

    @cached_property
    def _content(self) -> pa.Table:
        path = self.folder / OUTCOMES
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DamagedFileError(path, "packed outcomes", error.strerror or str(error)) from None
        table = read_parquet(content, path, "packed outcomes", dictionary=["unit"])
        if table.column_names[:1] != ["unit"] or table.schema.field(0).type != _UNIT_TYPE or table["unit"].null_count:
            raise DamagedFileError(path, "packed outcomes with a column of units", ", ".join(table.column_names))
        fault = check_columns(pa.schema(list(table.schema)[1:]))
        if fault is not None:
            raise DamagedFileError(path, "packed outcomes", fault)
        return table.combine_chunks()

    @cached_property
    def _rows(self) -> pa.Table:
        return self._content.drop_columns(["unit"])

    @cached_property
    def _slices(self) -> dict[str, tuple[int, int]]:
        """For each unit, its first row and the number of its rows."""
        if not self._content.num_rows:
            return {}
        column = self._content["unit"].chunk(0)
        codes = column.indices.to_numpy()
        starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
        lengths = np.diff(starts, append=len(codes))
        names = column.dictionary.to_pylist()
        return {names[codes[start]]: (int(start), int(length)) for start, length in zip(starts, lengths, strict=True)}


def open_pack(folder: Path) -> Pack | None:
    """Open the pack in a folder; None if there is none.

    A pack is read once per process and state of its files.

    Raises
    ------
    DamagedFileError
        If its manifests cannot be read or are of a newer version.
    """
    stamps = file_stamp(folder / MANIFESTS), file_stamp(folder / OUTCOMES)
    return None if stamps[0] is None else _open(folder, stamps)


@lru_cache(maxsize=4)
def _open(folder: Path, stamps: tuple[Any, ...]) -> Pack:
    path, kind = folder / MANIFESTS, "packed manifests"
    content = read_compressed(path, kind, PACK_VERSION)
    packed = validated(_PackContent, content, path, kind)
    manifests = [Manifest.parse(path, entry.manifest) for entry in packed.units]
    units = [manifest.unit for manifest in manifests]
    if len(set(units)) < len(units):
        raise DamagedFileError(path, f"{kind}, each unit once", f"{len(units) - len(set(units))} units more than once")
    hashes = {unit: entry.rows_sha256 for unit, entry in zip(units, packed.units, strict=True)}
    diagnoses = {name: DiagnosisDocument.parse(path, document) for name, document in packed.diagnoses.items()}
    return Pack(folder, dict(zip(units, manifests, strict=True)), hashes, diagnoses)


def write_pack(
    folder: Path, units: Mapping[str, tuple[Manifest, pa.Table]], diagnoses: Mapping[str, DiagnosisDocument]
) -> tuple[Path, Path]:
    """Write the pack of a folder; the same content gives the same bytes.

    Parameters
    ----------
    units : mapping
        Manifest and outcomes (columns of `outcomes.SCHEMA`), by unit.
    diagnoses : mapping
        By the hash of their identity.
    """
    names = sorted(units)
    tables = [units[name][1] for name in names]
    column = pa.array(np.repeat(np.array(names, dtype=object), [table.num_rows for table in tables]), pa.string())
    rows = pa.concat_tables([SCHEMA.empty_table(), *tables])
    buffer = io.BytesIO()
    pq.write_table(rows.add_column(0, "unit", column), buffer, compression="zstd", compression_level=19)
    content = {
        "units": [{"manifest": units[name][0].content(), "rows_sha256": rows_sha256(units[name][1])} for name in names],
        "diagnoses": {name: diagnoses[name].content() for name in sorted(diagnoses)},
    }
    folder.mkdir(parents=True, exist_ok=True)
    place(folder / OUTCOMES, buffer.getvalue())
    write_compressed(folder / MANIFESTS, content, PACK_VERSION)
    return folder / OUTCOMES, folder / MANIFESTS


def rows_sha256(table: pa.Table) -> str:
    """Hash outcomes by their values: independent of how Arrow or Parquet lays them out."""
    digest = hashlib.sha256()
    for name in SCHEMA.names:
        column = table[name]
        digest.update(f"{name}:{len(column)}\n".encode())
        if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
            digest.update(json.dumps(column.to_pylist()).encode())
        else:
            digest.update(np.ascontiguousarray(column.to_numpy()).astype(column.type.to_pandas_dtype()).tobytes())
    return digest.hexdigest()
