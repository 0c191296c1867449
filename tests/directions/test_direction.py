"""Directions as values: algebra, file format, and the refusal of what was made for another model."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from abliterate.capture.moments import Moments
from abliterate.directions.direction import SCHEMA, Direction, Provenance
from abliterate.directions.estimators import difference_of_means
from abliterate.errors import ArtifactError, DirectionMismatch

MADE = Provenance("owner/name", "abc", "c" * 64, 8, 4, "t", "p", "difference_of_means")
FITS = {"config_hash": "c" * 64, "width": 8, "layers": 4, "model": "owner/name"}


def vector(seed, norm=1.0):
    raw = torch.randn(8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return raw * (norm / raw.norm())


def make(raw):
    return Direction.from_vector(raw, position=-2, layer=3, provenance=MADE)


def subspace(seed=0, rank=3):
    raw = torch.randn(8, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Direction(torch.linalg.qr(raw).Q.T.contiguous(), 1.0, -1, 2, MADE)


vectors = st.tuples(st.integers(0, 1000), st.floats(1e-3, 1e3)).map(lambda case: vector(*case))
factors = st.floats(-100, 100).filter(lambda x: abs(x) > 1e-3)


@given(vectors)
def test_a_direction_is_a_unit_vector_and_a_norm(raw):
    found = make(raw)
    assert float(found.basis.norm()) == pytest.approx(1.0, rel=1e-12)
    assert found.scale == pytest.approx(float(raw.norm()))
    torch.testing.assert_close(found.vector, raw)
    assert found.basis.dtype == torch.float64 and found.rank == 1


@given(vectors, vectors, factors)
def test_algebra_is_that_of_the_raw_vectors(x, y, factor):
    a, b = make(x), make(y)
    if float((x + y).norm()) > 1e-6 and float((x - y).norm()) > 1e-6:
        torch.testing.assert_close((a + b).vector, x + y)
        torch.testing.assert_close((a - b).vector, x - y)
    torch.testing.assert_close((factor * a).vector, factor * x)
    torch.testing.assert_close((a * factor).vector, factor * x)
    torch.testing.assert_close((-a).vector, -x)
    assert (a.position, a.layer, a.provenance) == ((a * factor).position, (a * factor).layer, (a * factor).provenance)


def test_equality_is_of_everything():
    a = make(vector(0))
    assert a == make(vector(0)) and hash(a) == hash(make(vector(0)))
    others = [make(vector(1)), a * 2, -a, replace(a, layer=1), replace(a, position=-1)]
    others.append(replace(a, provenance=replace(MADE, revision="def")))
    assert all(a != other for other in others)
    assert a != "a direction" and a != subspace()


@given(vectors, vectors)
def test_a_cosine_is_that_of_the_vectors(x, y):
    cosine = float(x @ y / x.norm() / y.norm())
    assert make(x).cosine(make(y)) == pytest.approx(cosine, abs=1e-12)
    assert make(x).cosine(-make(x)) == pytest.approx(-1.0)


def test_a_cosine_between_subspaces_is_the_largest_principal_one():
    both = subspace()
    inside = Direction.from_vector(both.basis[0] + both.basis[2], position=-1, layer=2, provenance=MADE)
    assert both.cosine(inside) == pytest.approx(1.0)
    assert inside.cosine(both) == pytest.approx(1.0)
    assert both.cosine(both) == pytest.approx(1.0)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_a_direction_needs_a_finite_vector_that_is_not_zero(value):
    raw = torch.zeros(8)
    raw[3] = value
    with pytest.raises(ValueError, match="finite vector that is not zero"):
        make(raw)
    with pytest.raises(ValueError, match="not zero"):
        make(vector(0)) - make(vector(0))


@pytest.mark.parametrize(
    "basis",
    [
        pytest.param(torch.full((1, 8), 0.5, dtype=torch.float64), id="not of norm 1"),
        pytest.param(vector(0).unsqueeze(0) * (1 + 1e-6), id="nearly of norm 1"),
        pytest.param(torch.stack([vector(0), vector(1)]), id="not orthogonal"),
        pytest.param(torch.full((1, 8), math.nan, dtype=torch.float64), id="nan"),
        pytest.param(vector(0).float().unsqueeze(0), id="float32"),
        pytest.param(vector(0), id="not [k, d]"),
    ],
)
def test_a_basis_is_orthonormal_rows_in_float64(basis):
    """To 1e-9: strength 1 leaves as much of the component as the norm is off."""
    with pytest.raises(ValueError, match="orthonormal"):
        Direction(basis, 1.0, -1, 0, MADE)


def test_a_subspace_has_no_single_vector():
    for use in (lambda d: d.vector, lambda d: d * 2, lambda d: d + d):
        with pytest.raises(ValueError, match="no single raw vector"):
            use(subspace())


def test_a_difference_of_means_keeps_its_norm():
    shape = (2, 3, 8)
    generator = torch.Generator().manual_seed(0)
    refused = torch.randn(5, *shape, generator=generator, dtype=torch.float64) + 3
    answered = torch.randn(7, *shape, generator=generator, dtype=torch.float64)
    sides = [Moments.empty(*shape), Moments.empty(*shape)]
    for moments, x in zip(sides, (refused, answered), strict=True):
        moments.update(x)
    difference = difference_of_means(*sides)
    torch.testing.assert_close(difference, refused.mean(dim=0) - answered.mean(dim=0))
    assert difference.dtype == torch.float64


# --- files


@given(vectors)
def test_saving_and_loading_loses_no_bit(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("d") / "direction.safetensors"
    make(raw).save(path)
    assert Direction.load(path) == make(raw)


def test_a_subspace_is_saved_too(tmp_path):
    subspace().save(tmp_path / "new" / "d.safetensors")
    assert Direction.load(tmp_path / "new" / "d.safetensors") == subspace()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["d.safetensors"], "no temporary file is left"


def saved(path, *, schema=SCHEMA, basis=None, **changes):
    """A direction file with something else in it."""
    about = {"scale": 1.0, "position": -1, "layer": 0, "provenance": vars(MADE)} | changes
    about = {key: value for key, value in about.items() if value is not ...}
    metadata = {"direction": json.dumps(about)} | ({} if schema is None else {"schema": schema})
    save_file({"basis": vector(0).unsqueeze(0) if basis is None else basis}, path, metadata)
    return path


def broken(path, message="cannot read the direction"):
    with pytest.raises(ArtifactError, match=rf"{message}.*abliterate find") as caught:
        Direction.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("schema", ["abliterate.direction/0", "abliterate.direction/2", "something else", None])
def test_another_schema_is_refused_by_name(tmp_path, schema):
    broken(saved(tmp_path / "d.safetensors", schema=schema), rf"not a direction of this version \(schema {schema}\)")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"scale": ...}, id="no scale"),
        pytest.param({"provenance": {"model": "m"}}, id="no revision"),
        pytest.param({"provenance": vars(MADE) | {"more": 1}}, id="an unknown field"),
        pytest.param({"provenance": None}, id="no provenance"),
        pytest.param({"basis": torch.ones(1, 8, dtype=torch.float64)}, id="not orthonormal"),
        pytest.param({"basis": vector(0).unsqueeze(0).bfloat16()}, id="bfloat16"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, changes):
    broken(saved(tmp_path / "d.safetensors", **changes))


def test_a_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "d.safetensors"
    broken(path)
    broken(tmp_path)
    for data in (b"", b"not at all", saved(path).read_bytes()[:200], saved(path).read_bytes()[:-1]):
        path.write_bytes(data)
        broken(path)
    save_file({"other": torch.ones(1)}, path, {"schema": SCHEMA, "direction": "{"})
    broken(path)


# --- another model


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 16}, r"hidden size 8\), not for other/model \(16\)"),
        ({"layers": 5}, r"number of layers 4\), not for other/model \(5\)"),
        ({"config_hash": "d" * 64}, r"config hash c{12}\), not for other/model \(d{12}\)"),
    ],
)
def test_a_direction_of_another_model_is_refused_with_both_values(wrong, message):
    with pytest.raises(DirectionMismatch, match=message + r".*abliterate find other/model"):
        make(vector(0)).check_fits(**(FITS | wrong | {"model": "other/model"}))


def test_a_renamed_model_is_the_same_model():
    make(vector(0)).check_fits(**(FITS | {"model": "/elsewhere"}))
