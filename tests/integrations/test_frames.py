"""Real files of real libraries, written and read through a compressed and encrypted store.

``nox -s integrations`` installs them; elsewhere those that are not there are skipped.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from trove_async import Middleware
from trove_async.middleware import Compress, Encrypt, Keyring

INSTALL = 'pip install "trove-async[integrations]"'
ROWS = 50_000


def layers() -> list[Middleware]:
    return [Compress(), Encrypt(Keyring({"k": bytes(range(32))}, active="k"))]


def wanted(name: str) -> Any:
    """The library, or a skip that says how to get it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of when it is imported is its own
        return pytest.importorskip(name, reason=f"{name} is not here: {INSTALL}")


@pytest.fixture
def options(tmp_path: Path) -> dict[str, object]:
    """Storage options that another process could use as well."""
    root = tmp_path / "store"
    root.mkdir()
    target = f"file://{root}?durability=none"
    return {"target": target, "middleware": "tests.integrations.test_frames:layers"}


@pytest.fixture
def fs(options: dict[str, object]) -> Iterator[Any]:
    made = fsspec.filesystem("trove", **options)
    made.mkdir("data")
    yield made
    made.close()


def is_sealed(fs: Any, root: Path) -> bool:
    """Every stored file is a message of the AWS Encryption SDK (version 2, by its first byte)."""
    files = [path for path in (root / "store" / "data").rglob("*") if path.is_file()]
    return bool(files) and all(path.read_bytes()[:1] == b"\x02" for path in files)


def test_pandas(fs: Any, options: dict[str, object], tmp_path: Path) -> None:
    pandas = wanted("pandas")
    wanted("pyarrow")
    frame = pandas.DataFrame({"n": range(ROWS), "t": [f"row {n}" for n in range(ROWS)]})
    frame.to_parquet("trove://data/a.parquet", storage_options=options)
    frame.to_csv("trove://data/a.csv.gz", index=False, storage_options=options)
    assert is_sealed(fs, tmp_path)
    back = pandas.read_parquet("trove://data/a.parquet", storage_options=options)
    assert back.equals(frame)
    back = pandas.read_csv("trove://data/a.csv.gz", storage_options=options)
    assert back.equals(frame)


def test_pyarrow_datasets(fs: Any, tmp_path: Path) -> None:
    pyarrow = wanted("pyarrow")
    dataset = wanted("pyarrow.dataset")
    table = pyarrow.table({"n": range(ROWS), "part": [n % 3 for n in range(ROWS)]})
    dataset.write_dataset(table, "data/set", filesystem=fs, format="parquet", partitioning=["part"])
    assert is_sealed(fs, tmp_path)
    found = dataset.dataset("data/set", filesystem=fs, format="parquet", partitioning=["part"])
    assert found.count_rows() == ROWS
    some = found.to_table(filter=(dataset.field("part") == 1) & (dataset.field("n") < 100))
    assert sorted(some["n"].to_pylist()) == [*range(1, 100, 3)]


def test_polars(fs: Any, options: dict[str, object], tmp_path: Path) -> None:
    polars = wanted("polars")
    frame = polars.DataFrame({"n": range(ROWS), "x": [n % 7 for n in range(ROWS)]})
    with fs.open("data/a.parquet", "wb") as file:
        frame.write_parquet(file)
    assert is_sealed(fs, tmp_path)
    with fs.open("data/a.parquet", "rb") as file:
        assert polars.read_parquet(file).equals(frame)
    with fs.open("data/a.parquet", "rb") as file:
        some = polars.scan_parquet(file).filter(polars.col("x") == 3).select("n").collect()
    assert some.height == sum(n % 7 == 3 for n in range(ROWS))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of dask's own
def test_dask(fs: Any, options: dict[str, object], tmp_path: Path) -> None:
    wanted("dask")
    pandas = wanted("pandas")
    dataframe = wanted("dask.dataframe")
    frame = pandas.DataFrame({"n": range(ROWS), "x": [n % 7 for n in range(ROWS)]})
    dataframe.from_pandas(frame, npartitions=4).to_parquet(
        "trove://data/set", storage_options=options
    )
    assert len(fs.glob("data/set/*.parquet")) == 4 and is_sealed(fs, tmp_path)
    back = dataframe.read_parquet("trove://data/set", storage_options=options)
    assert int(back.n.sum().compute()) == ROWS * (ROWS - 1) // 2
    bag = importlib.import_module("dask.bag")
    fs.pipe("data/lines.txt", b"\n".join(b"%d" % n for n in range(1000)))
    lines = bag.read_text("trove://data/lines.txt", storage_options=options, blocksize=1000)
    assert lines.npartitions > 1 and lines.count().compute(scheduler="threads") == 1000


def test_zarr(options: dict[str, object], fs: Any, tmp_path: Path) -> None:
    zarr = wanted("zarr")
    numpy = wanted("numpy")
    url = "trove://data/array.zarr"
    array = zarr.create_array(
        url, shape=(300, 300), chunks=(100, 100), dtype="i4", storage_options=options
    )
    array[:] = numpy.arange(90_000).reshape(300, 300)
    assert is_sealed(fs, tmp_path)
    back = zarr.open_array(url, mode="r", storage_options=options)
    assert int(back[150, 150]) == 150 * 300 + 150
    assert int(back[:].sum()) == 90_000 * 89_999 // 2


def test_duckdb(fs: Any, tmp_path: Path) -> None:
    duckdb = wanted("duckdb")
    connection = duckdb.connect()
    connection.register_filesystem(fs)
    try:
        connection.execute(
            f"copy (select i as n, i % 7 as x from range({ROWS}) r(i)) "
            "to 'trove://data/a.parquet' (format parquet)"
        )
        assert is_sealed(fs, tmp_path)
        [(count, total)] = connection.execute(
            "select count(*), sum(n) from read_parquet('trove://data/*.parquet') where x = 3"
        ).fetchall()
    finally:
        connection.close()
    expected = [n for n in range(ROWS) if n % 7 == 3]
    assert (count, total) == (len(expected), sum(expected))
