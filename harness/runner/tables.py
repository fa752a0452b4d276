"""Reading of Parquet files, which anybody may have written, and their check against the schema of outcomes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from model_zoo.errors import DamagedFileError


def read_parquet(content: bytes, path: Path, kind: str, rows: int | None = None, dictionary: Sequence[str] = ()) -> pa.Table:
    """Return the table of a Parquet file with the content `content`; columns called `dictionary` are dictionary-encoded.

    Values are checked, also that texts are UTF-8, so that nothing that converts the table fails later.

    Raises
    ------
    DamagedFileError
        If it is not Parquet, or does not have that number of rows; names the file `path`, and what it should contain, `kind`.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(content), read_dictionary=list(dictionary))
        # A few bytes can describe billions of rows, which must not be read.
        if rows is not None and file.metadata.num_rows != rows:
            raise DamagedFileError(path, f"{kind}, {rows} rows", f"{file.metadata.num_rows} rows")
        table = file.read(use_threads=False).replace_schema_metadata(None)
        table.validate(full=True)
    except (OSError, pa.ArrowException, ValueError, OverflowError, MemoryError) as error:
        raise DamagedFileError(path, f"{kind} in Parquet", f"{type(error).__name__}: {error}") from None
    return table
