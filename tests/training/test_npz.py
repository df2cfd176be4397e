"""Damaged and crafted archives: one kind of error that names the file, before memory is spent; nothing is taken silently."""
from __future__ import annotations

import io
import json
import os
import tracemalloc
import warnings
import zipfile
import zlib
from base64 import b64encode

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.training.npz import open_npz
from fastbptt.tree import leaves

ARRAYS = {"x": np.arange(12.0).reshape(4, 3), "step": np.array(7), "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
          "none": np.zeros((0, 3), np.float32), "big": np.arange(3, dtype=">i4")}


def read(path, **options):
    with open_npz(path, "some arrays", **options) as archive:
        return {name: archive.read(name) for name in archive.members}


def npy(shape, descr="<f8", data=b"", fortran=False):
    """An array file whose header says what it likes."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": fortran, "shape": shape})
    return stream.getvalue() + data


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")         # of names that occur twice
        for name, data in members:
            file.writestr(name, data)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_writes(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read(tmp_path / "a.npz")
    for name, array in ARRAYS.items():
        assert found[name].shape == array.shape and found[name].dtype == array.dtype and np.array_equal(found[name], array)
        assert found[name].flags.c_contiguous
    with open_npz(tmp_path / "a.npz", "arrays") as file:
        assert "step () of int64" in file.describe() and "x (4, 3) of float64" in file.describe()


def big_header():
    return b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + b" " * 1000


@pytest.mark.parametrize(("members", "message"), [
    ([("x.npy", npy((10**15,)))], "x: expected 8,000,000,000,000,000 bytes"),
    ([("x.npy", npy((2, 2), data=bytes(31)))], "x: expected 32 bytes .* got 31"),
    ([("x.npy", npy((2, 2), data=bytes(33)))], "x: expected 32 bytes .* got 33"),
    ([("x.npy", npy((-1, 3), data=bytes(24)))], "x: expected -24 bytes"),
    ([("x.npy", npy((1,), "|O", b"\x80\x04N.    "))], "x: expected numbers, got .* Python objects"),
    ([("x.npy", npy((1,), data=bytes(8)))] * 2, r"every array once, got x\.npy twice"),
    ([("x.txt", b"abc")], r"expected arrays \(\.npy\), got x\.txt"),
    ([("a\x1b[31m\n.npy", npy((1,)))], r"^[^\x1b\n]*a\\x1b\[31m\\n: expected 8 bytes"),
    ([("x.npy", big_header())], "x: expected a header of at most 65,536 bytes, got 2,147,483,648"),
    ([("x.npy", b"\x93NUMPY\x03\x00" + bytes(30))], "x: expected an array of version 1 or 2"),
    ([("x.npy", b"")], "damaged or foreign"), ([("x.npy", b"\x93NUMPY\x01\x00\xff\xff{")], "damaged or foreign"),
    ([("x.npy", npy(("a",)))], "damaged or foreign"),
])
def test_crafted_members(tmp_path, members, message):
    archive(tmp_path / "a.npz", members)
    with pytest.raises(fb.FileError, match=message) as caught:
        read(tmp_path / "a.npz")
    assert str(caught.value).startswith(f"{tmp_path / 'a.npz'}: ")
    with pytest.raises(fb.FileError, match=rf"^--npz: .* in {tmp_path / 'a.npz'}$"):
        read(tmp_path / "a.npz", option="--npz")


@pytest.mark.parametrize(("at", "value", "message"), [
    (8, 0x01, "encrypted"), (8, 0x40, "encrypted"), (8, 0x20, "damaged"), (10, 99, "packed in another way"),
    (24, 0xff, "expected at most"), (42, 0xff, "damaged")])
def test_one_byte_of_the_directory(tmp_path, at, value, message):
    """Flags, method, size and place of a member, in its entry of the central directory."""
    np.savez(tmp_path / "a.npz", x=np.arange(30.0))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[data.rfind(b"PK\1\2") + at] |= value
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(fb.FileError, match=f"a.npz: .*{message}"):
        read(tmp_path / "a.npz")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.npz"
    model = fb.SequenceModel(fb.RNN(2, 3, mask=np.ones((3, 3)), signs=[1, 0, -1]), 2)
    params = model.init(seed=0)
    fb.save_model(path, model, params, fb.Vocabulary("ab"))
    return path, model, params


def test_every_bit_that_is_flipped_is_refused_or_changes_nothing(model_file, tmp_path):
    path, model, params = model_file
    data, taken = path.read_bytes(), 0
    places = np.random.default_rng(0).permutation(8 * len(data))[:1500]
    places = [*places, *range(8 * data.find(b"PK\1\2"), 8 * data.find(b"PK\1\2") + 400)]
    for place in places:
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        (tmp_path / "m.npz").write_bytes(changed)
        try:
            found = fb.load_model(tmp_path / "m.npz")
        except fb.FileError as error:
            assert str(error).startswith(f"{tmp_path / 'm.npz'}: ") and str(error).isprintable()
        else:
            taken += 1      # dates, versions and attributes of members
            assert found.model == model and found.vocabulary == fb.Vocabulary("ab")
            assert all(np.array_equal(a, b) for a, b in zip(leaves(found.params), leaves(params), strict=True))
    assert taken < 0.5 * len(places)


@pytest.mark.parametrize("end", [1, 30, 100, 1000, -1, -22, -23, -60])
def test_cut(model_file, tmp_path, end):
    (tmp_path / "m.npz").write_bytes(model_file[0].read_bytes()[:end])
    with pytest.raises(fb.FileError, match="m.npz: expected a model that fastbptt saved"):
        fb.load_model(tmp_path / "m.npz")


def with_header(source, target, compression=zipfile.ZIP_DEFLATED, **options):
    """The model file with other options of its cell."""
    with zipfile.ZipFile(source) as file:
        members = {name: file.read(name) for name in file.namelist()}
    header = json.loads(np.load(io.BytesIO(members["header.npy"])).tobytes())
    header["cell_options"] |= options
    stream = io.BytesIO()
    np.save(stream, np.frombuffer(json.dumps(header).encode(), np.uint8))
    members["header.npy"] = stream.getvalue()
    archive(target, members.items(), compression)


def zeros(size):
    """Base64 of so many zeros, deflated."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(size // 2**20)) + packer.flush()
    return b64encode(packed).decode()


@pytest.mark.parametrize("options", [
    {"mask": {"shape": [2**14, 2**14], "int8": zeros(2**26)}}, {"signs": {"shape": [2**26], "int8": zeros(2**26)}},
    {"mask": {"shape": [3, 3], "int8": zeros(2**26)}},
    {"hidden_size": 2**13, "mask": {"shape": [2**13, 2**13], "int8": zeros(2**26)}},
    {"hidden_size": 2**40}, {"input_size": 10**15}, {"mask": {"shape": [-3, -3], "int8": zeros(2**20)}},
    {"mask": {"shape": [3, 3]}}, {"mask": {}}, {"hidden_size": {"shape": [3], "int8": ""}},
])
def test_a_header_claims_what_it_likes(model_file, tmp_path, options):
    """Refused from a file of some kilobytes without the memory that it speaks of."""
    with_header(model_file[0], tmp_path / "m.npz", **options)
    assert (tmp_path / "m.npz").stat().st_size < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(fb.FileError, match="m.npz: "):
            fb.load_model(tmp_path / "m.npz")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_bomb_of_zeros_is_not_unpacked(tmp_path):
    """64 MiB in 64 KiB, as an array of which the model has five numbers, and as a header."""
    model = fb.SequenceModel(fb.RNN(2, 5), 2)
    fb.save_model(tmp_path / "m.npz", model, model.init())
    with zipfile.ZipFile(tmp_path / "m.npz") as file:
        members = {name: file.read(name) for name in file.namelist()}
    for name in ("cell.b.npy", "header.npy"):
        bomb = {**members, name: npy((2**26 + 1,), "|u1", bytes(2**26 + 1))}
        archive(tmp_path / "bomb.npz", bomb.items(), zipfile.ZIP_DEFLATED)
        tracemalloc.start()
        try:
            with pytest.raises(fb.FileError, match=f"bomb.npz: {name.removesuffix('.npy')}: expected"):
                fb.load_model(tmp_path / "bomb.npz")
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()


def test_masks_and_signs_come_back(model_file, tmp_path):
    """Also from a file that somebody packed again."""
    path, model, params = model_file
    with_header(path, tmp_path / "again.npz")
    for file in (path, tmp_path / "again.npz"):
        found = fb.load_model(file)
        assert found.model == model and np.array_equal(found.model.cell.signs, [1, 0, -1])
        assert np.array_equal(found.params.cell.W, params.cell.W)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("read", [fb.load_model, fb.TextFile, lambda path: next(fb.stream(path, 1, 1))])
def test_a_pipe_is_refused_by_its_name(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(fb.FileError, match="pipe: expected a file on a disk, got a pipe"):
        read(tmp_path / "pipe")
