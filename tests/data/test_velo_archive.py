"""Archives and events that must not pass: the error names archive, event and field."""

import gzip
import json

import numpy as np
import pytest
from made_up_velo import NAMES, event, events, particle, read, tar_bytes, write_archive

from frz.data.velo.archive import read_events
from frz.errors import SourceError


def spoil(**change):
    made = event(np.random.default_rng(0))
    return made | change


ROW = particle([0, 1, 2])
COORDINATES = [1.5] * 60


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        (b"\xff\xfe".decode("latin1"), "not valid JSON"),
        ("[1, 2]", "field 'x' is missing"),
        (json.dumps({k: v for k, v in spoil().items() if k != "y"}), "field 'y' is missing"),
        (json.dumps(spoil(x=COORDINATES[:-1])), "x, y, z have 59, 60, 60 entries"),
        (json.dumps(spoil(z=[*COORDINATES[:-1], float("nan")])), r"z\[59\] = nan is not a finite number"),
        (json.dumps(spoil(z=[*COORDINATES[:-1], float("-inf")])), r"z\[59\] = -inf is not a finite number"),
        (json.dumps(spoil(y=[1e39, *COORDINATES[1:]])), r"y\[0\] = 1e\+39 is not a finite number"),
        (json.dumps(spoil(y=[None, *COORDINATES[1:]])), r"y\[0\] = None is not a number"),
        (json.dumps(spoil(y=["1", *COORDINATES[1:]])), r"y\[0\] = '1' is not a number"),
        (json.dumps(spoil(x="abc")), "field 'x' is not a list"),
        (json.dumps(spoil(module_prefix_sum=[0, 60])), "module_prefix_sum has 2 entries, 53 expected"),
        (json.dumps(spoil(module_prefix_sum=[0] * 52 + [61])), "module_prefix_sum runs from 0 to 61"),
        (json.dumps(spoil(module_prefix_sum=[5] + [60] * 52)), "module_prefix_sum runs from 5 to 60"),
        (json.dumps(spoil(module_prefix_sum=[0, 9, 8] + [60] * 50)), "module_prefix_sum is not a rising list"),
        (json.dumps(spoil(module_prefix_sum=[0, 0.5] + [60] * 51)), "module_prefix_sum is not a rising list"),
        (json.dumps(spoil(montecarlo=[])), "field 'montecarlo' is not a mapping"),
        (json.dumps(spoil(montecarlo={"description": NAMES})), "field 'montecarlo.particles' is missing"),
        (
            json.dumps(spoil(montecarlo={"description": NAMES[1:] + ["k"], "particles": [ROW[:-1]]})),
            r"montecarlo.particles\[0\] is not a list of 16 entries",
        ),
        (
            json.dumps(spoil(montecarlo={"description": [n for n in NAMES if n != "eta"], "particles": []})),
            "montecarlo.description lacks 'eta'",
        ),
        (
            json.dumps(spoil(montecarlo={"description": NAMES, "particles": [ROW, particle([0], phi=float("inf"))]})),
            r"montecarlo.particles: phi\[1\] = inf is not a finite number",
        ),
        (
            json.dumps(spoil(montecarlo={"description": NAMES, "particles": [ROW, particle([0, 60])]})),
            r"montecarlo.particles\[1\].hits has 60, which is none of the 60 hits",
        ),
        (
            json.dumps(spoil(montecarlo={"description": NAMES, "particles": [particle([-1])]})),
            r"montecarlo.particles\[0\].hits has -1",
        ),
        (
            json.dumps(spoil(montecarlo={"description": NAMES, "particles": [particle([1.5])]})),
            r"montecarlo.particles\[0\].hits has 1.5",
        ),
        (
            json.dumps(spoil(montecarlo={"description": NAMES, "particles": [particle(3)]})),
            r"montecarlo.particles\[0\].hits is not a list",
        ),
    ],
)
def test_bad_events_name_archive_event_and_field(tmp_path, text, message):
    path = write_archive(tmp_path / "bad.tar.gz", events(1) | {"velo_events/velo_event_9.json": text})
    with pytest.raises(SourceError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: velo_events/velo_event_9.json: ")
    assert "\n" not in str(caught.value)


def test_member_without_a_number(tmp_path):
    path = write_archive(tmp_path / "bad.tar.gz", {"velo_events/geometry.json": "{}"})
    with pytest.raises(SourceError, match=r"geometry.json: the member's name has no event number"):
        read(path)


def test_missing_archive_or_folder(tmp_path):
    with pytest.raises(SourceError, match=r"nowhere.tar.gz: cannot be opened: .*data/README.md says where"):
        read(tmp_path / "nowhere.tar.gz")
    with pytest.raises(SourceError, match=r"no \*.tar.gz in this folder"):
        read(tmp_path)
    with pytest.raises(SourceError, match="no such archive"):
        next(read_events(tmp_path / "nowhere.tar.gz"))


def test_archive_without_events(tmp_path):
    path = write_archive(tmp_path / "a.tar.gz", {"README.txt": "nothing here"})
    with pytest.raises(SourceError, match="holds no event"):
        read(path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.99])
def test_cut_off_gzip(tmp_path, share):
    whole = write_archive(tmp_path / "a.tar.gz", events()).read_bytes()
    path = tmp_path / "cut.tar.gz"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(SourceError, match=r"cut.tar.gz: cannot be read after \d events.*fresh copy"):
        read(path)


@pytest.mark.parametrize("where", ["before a header", "in a header", "in a member"])
def test_cut_off_tar_in_a_whole_gzip(tmp_path, where):
    members = events()
    whole = tar_bytes(members)
    second = whole.index(b"velo_events/velo_event_1.json")
    end = {"before a header": second, "in a header": second + 100, "in a member": second + 700}[where]
    path = tmp_path / "cut.tar.gz"
    path.write_bytes(gzip.compress(whole[:end]))
    with pytest.raises(SourceError, match="cannot be read after 1 events"):
        read(path)


def test_damage_inside(tmp_path):
    path = tmp_path / "bad.tar.gz"
    path.write_bytes(b"this is not an archive")
    with pytest.raises(SourceError, match="cannot be read after 0 events"):
        read(path)
    whole = bytearray(tar_bytes(events()))
    whole[whole.index(b"velo_events/velo_event_1.json")] ^= 1  # tarfile alone would stop here without a word
    path.write_bytes(gzip.compress(bytes(whole)))
    with pytest.raises(SourceError, match="cannot be read after 1 events"):
        read(path)
    packed = bytearray(gzip.compress(tar_bytes(events())))
    packed[-6] ^= 1  # the checksum
    path.write_bytes(packed)
    with pytest.raises(SourceError, match="cannot be read after 3 events"):
        read(path)
