"""What can be a store's URL, and what is said of what cannot."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from dask_async_run.store_url import store_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://bucket/runs", "s3://bucket/runs"),
        ("s3://bucket/runs/", "s3://bucket/runs"),
        ("gs://bucket", "gs://bucket"),
        ("abfs://container@account.dfs.core.windows.net/runs",) * 2,
        ("sftp://ada@host/runs", "sftp://ada@host/runs"),
        ("file:///shared/runs", "file:///shared/runs"),
        ("/shared/runs", "file:///shared/runs"),
        ("runs", f"file://{Path.cwd()}/runs"),
        ("none", "none"),
    ],
)
def test_a_url_or_a_folder(text: str, url: str) -> None:
    """A folder's path becomes a URL that means the same anywhere."""
    assert store_url(text) == url


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("s3://key:hush@bucket/runs", "AWS_ACCESS_KEY_ID"),
        ("sftp://ada:hush@host/runs", "more than a place"),
        ("abfs://c@a/runs?sig=hush", "more than a place"),
        ("s3://bucket/runs#hush", "more than a place"),
        ("simplecache::s3://hush", "no URL"),
        ("s3:///", "needs a place"),
        ("file://hush/x", "needs a place"),
        ("memory://hush", "ends with its process"),
        ("", "no URL"),
    ],
)
def test_what_is_none_is_refused_and_not_repeated(text: str, why: str) -> None:
    """A URL is recorded and shown: one with a password in it is not, not even in the refusal."""
    with pytest.raises(argparse.ArgumentTypeError, match=why) as refused:
        store_url(text)
    assert "hush" not in str(refused.value)
