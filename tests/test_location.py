"""URLs: taken as paths, or refused in a line that tells no secret."""

from pathlib import Path

import pytest

from frz import artifacts
from frz.errors import ConfigError, FrzError, StoreError
from frz.location import is_remote, location


def test_what_is_no_url_is_a_local_path(tmp_path):
    assert location("a/b") == Path("a/b")
    assert location(tmp_path) == tmp_path
    assert location(f"file://{tmp_path}") == tmp_path
    assert not is_remote(location(f"file://{tmp_path}"))


def test_a_url_is_a_path_of_an_object_store(bucket):
    place = location(f"{bucket}/a/") / "b.json"
    assert is_remote(place)
    assert str(place) == f"{bucket}/a/b.json"
    assert location(place) is place
    assert (place.name, place.stem, str(place.parent)) == ("b.json", "b", f"{bucket}/a")


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("s3://key:hush@bucket/a", "must not hold credentials"),
        ("s3://key:hu/sh@bucket/a", "must not hold credentials"),
        ("s3://hush@bucket/a", "must not hold credentials"),
        ("s3://bucket/a?X-Amz-Signature=hush", "must not hold credentials"),
        ("memory://a", "cannot hold artifacts"),
        ("https://host/a", "cannot hold artifacts"),
        ("simplecache::s3://bucket/a", "cannot hold artifacts"),
        ("s3:///a", "names no bucket"),
        (Path("s3://bucket/a"), "give URLs as text"),
        ("s3:/bucket/a", "give URLs as text"),
    ],
)
def test_other_urls_are_refused_before_anything_is_made(url, what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=what) as refused:
        artifacts.root(url)
    assert "hush" not in str(refused.value)
    assert "sh@" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_kind_of_url_that_nothing_reads_is_refused():
    pytest.importorskip("upath", reason="needs universal-pathlib: pip install 'frz[s3]'")
    with pytest.raises(ConfigError, match="nothing here can read nonsense://"):
        location("nonsense://a/b")


def test_a_missing_bucket_and_a_server_that_is_not_there_are_one_line(bucket, monkeypatch):
    with pytest.raises(StoreError, match="no such bucket"):
        artifacts.root("s3://no-such-bucket/a")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hush@127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with pytest.raises(FrzError, match="cannot be used.*AWS_ENDPOINT_URL") as refused:
        artifacts.root(f"{bucket}/a")
    s3fs.S3FileSystem.clear_instance_cache()
    assert "hush" not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
