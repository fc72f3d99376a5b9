"""Stores for everything that speaks fsspec: pandas, dask, zarr, polars, pyarrow, duckdb.

    import pandas
    pandas.read_parquet(
        "trove://data/2026.parquet", storage_options={"target": "file:///var/data/trove"}
    )

Registered as protocol ``trove`` by entry point; this module loads on its first use.
"""

from trove_async.fsspec.filesystem import TroveFileSystem

__all__ = ["TroveFileSystem"]
