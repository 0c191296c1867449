"""What an edit does to a running model, on every dense architecture (DESIGN.md, "Laws")."""

from contextlib import ExitStack, contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from abliterate.anatomy.load import load
from abliterate.directions.direction import Direction
from abliterate.directions.estimators import random_vector
from abliterate.edits.edit import Ablate, Add
from abliterate.edits.hooks import edited
from tests.toys import LAYERS, WIDTH, apart, direction, logits, provenance, sentences, toy

TEXT = sentences(1)[0]

# One write is ablated to within one rounding of its norm, and a stream is the sum of 2 L + 1 = 7 of them (8 with
# learned positions), each at most a few times longer than the sum. Hence some tens of roundings, eps / 2 each.
ROUNDINGS = 64

# Logits of two ways to compute the same float32 model: some 1e2 operations deep, so 1e-5 is 1e2 eps.
SAME = 1e-5


def tolerance(dtype):
    return ROUNDINGS * torch.finfo(dtype).eps / 2


def norms(subject):
    """Every norm over the stream: all that reads it, in a pre-norm model."""
    return [m for m in subject.model.modules() if "Norm" in type(m).__name__ and m.weight.shape == (WIDTH,)]


def stream(subject, text=TEXT):
    """The stream [places, tokens, d] at every block's input and output, and wherever a norm reads it (the middles)."""
    places = []

    def before(module, args, kwargs):
        places.append((args[0] if args else kwargs["hidden_states"])[0].double())

    def after(module, args, output):
        places.append((output[0] if isinstance(output, tuple) else output)[0].double())

    blocks = [subject.model.get_submodule(name) for name in subject.anatomy.blocks]
    with ExitStack() as stack:
        for module in [*blocks, *norms(subject)]:
            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
        for module in blocks:
            stack.callback(module.register_forward_hook(after).remove)
        logits(subject.model, text)
    return torch.stack(places)


def component(subject, basis):
    """Largest |Q x| / |x| of each place."""
    x = stream(subject)
    return ((x @ basis.T).norm(dim=-1) / x.norm(dim=-1)).amax(dim=-1)


def test_strength_0_leaves_every_bit_as_it_was(subject):
    before = logits(subject.model, TEXT)
    with edited(subject, Ablate(direction(subject), 0.0)):
        assert torch.equal(logits(subject.model, TEXT), before)


@pytest.mark.parametrize("rank", [1, 3])
def test_strength_1_leaves_no_component_in_any_block(subject, rank):
    edit = Ablate(direction(subject, rank=rank))
    assert component(subject, edit.direction.basis).min() > 0.1, "there must be one before"
    with edited(subject, edit):
        left = component(subject, edit.direction.basis)
    assert len(left) >= 3 * LAYERS + 1
    assert left.max() < tolerance(torch.float32)


@pytest.mark.parametrize("kind", ["llama", "cohere"])
def test_strength_1_leaves_no_component_in_half_precision(kind, tmp_path):
    """The stream itself is rounded after every addition, so a component of some roundings comes back."""
    subject = load(toy(kind, tmp_path), dtype="bfloat16")
    edit = Ablate(direction(subject))
    before = component(subject, edit.direction.basis)
    with edited(subject, edit):
        left = component(subject, edit.direction.basis)
    # Independent roundings of d coordinates: along one direction they add up to one coordinate's, eps / 2 at worst.
    assert left.max() < torch.finfo(torch.bfloat16).eps / 2 < before.min() / 20


@pytest.mark.parametrize("strength", [0.3, 1.7])
def test_every_write_keeps_1_minus_strength_of_its_component(subject, strength):
    """The input of the first block is one write (or two): its component is scaled, whatever the strength."""
    edit = Ablate(direction(subject), strength)
    before = stream(subject)[0]
    with edited(subject, edit):
        after = stream(subject)[0]
    q = edit.direction.basis[0]
    torch.testing.assert_close(after @ q, (1 - strength) * (before @ q), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        after - torch.outer(after @ q, q), before - torch.outer(before @ q, q), rtol=1e-4, atol=1e-5
    )


def test_ablating_twice_is_ablating_once(subject):
    edit = Ablate(direction(subject))
    with edited(subject, edit):
        once = logits(subject.model, TEXT)
        with edited(subject, edit):
            twice = logits(subject.model, TEXT)
    assert apart(twice, once) < SAME


def test_strengths_compose(subject):
    """(1 - a) twice is 1 - (2a - a^2) once."""
    half, both = Ablate(direction(subject), 0.5), Ablate(direction(subject), 0.75)
    with edited(subject, half), edited(subject, half):
        twice = logits(subject.model, TEXT)
    with edited(subject, both):
        once = logits(subject.model, TEXT)
    assert apart(twice, once) < SAME


@pytest.mark.parametrize("change", [Ablate, Add])
def test_leaving_restores_every_bit(subject, change):
    before = logits(subject.model, TEXT)
    with edited(subject, change(direction(subject))):
        assert apart(logits(subject.model, TEXT), before) > 1e-2, "it must change something inside"
    assert torch.equal(logits(subject.model, TEXT), before)


@pytest.mark.parametrize("change", [Ablate, Add])
def test_an_exception_restores_every_bit(subject, change):
    before = logits(subject.model, TEXT)
    with pytest.raises(KeyboardInterrupt), edited(subject, change(direction(subject))):
        raise KeyboardInterrupt
    assert torch.equal(logits(subject.model, TEXT), before)


def test_leaving_an_inner_edit_restores_the_outer_one(llama):
    outer, inner = Ablate(direction(llama)), Ablate(direction(llama, seed=1))
    before = logits(llama.model, TEXT)
    with edited(llama, outer):
        outside = logits(llama.model, TEXT)
        with pytest.raises(ValueError, match="inside"), edited(llama, inner):
            assert apart(logits(llama.model, TEXT), outside) > 1e-2
            raise ValueError("inside")
        assert torch.equal(logits(llama.model, TEXT), outside)
    assert torch.equal(logits(llama.model, TEXT), before)


def test_weights_are_never_touched(subject):
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    with edited(subject, Ablate(direction(subject))):
        logits(subject.model, TEXT)
        inside = subject.model.state_dict()
        assert all(torch.equal(inside[name], value) for name, value in before.items())


def test_cleaning_what_is_read_equals_cleaning_what_is_written(subject):
    """Written without the anatomy: in a pre-norm model only norms read the stream, so project their inputs instead."""
    edit = Ablate(direction(subject))
    q = edit.direction.basis[0].float()

    def clean(module, args):
        x = args[0]
        return (x - (x @ q).unsqueeze(-1) * q, *args[1:])

    with ExitStack() as stack:
        for norm in norms(subject):
            stack.callback(norm.register_forward_pre_hook(clean).remove)
        read = logits(subject.model, TEXT)
    with edited(subject, edit):
        written = logits(subject.model, TEXT)
    assert apart(written, read) < SAME


def factor(subject, site):
    """What the model multiplies a write with before it adds it; one, but for Granite."""
    config = subject.model.config
    return getattr(config, "embedding_multiplier" if site.layer is None else "residual_multiplier", 1.0)


@contextmanager
def stream_hooks(subject, edit):
    """The other convention: ablate the running stream after every addition (methods.md 4.2), not what is added."""
    q, a = edit.direction.basis[0].float(), edit.strength
    running = []

    def ablate(x):
        return x - a * (x @ q).unsqueeze(-1) * q

    def write(gain):
        def hook(module, args, output):
            stream = running[0] if running else 0.0
            after = ablate(stream + gain * output)
            running[:] = [after]
            return (after - stream) / gain

        return hook

    with ExitStack() as stack:
        for site in subject.anatomy.sites:
            module = subject.model.get_submodule(site.name)
            stack.callback(module.register_forward_hook(write(factor(subject, site))).remove)
        yield


def test_at_strength_1_it_makes_no_difference_whether_writes_or_the_stream_are_ablated(subject):
    edit = Ablate(direction(subject))
    with edited(subject, edit):
        writes = logits(subject.model, TEXT)
    with stream_hooks(subject, edit):
        assert apart(logits(subject.model, TEXT), writes) < SAME


def test_between_0_and_1_ablating_the_stream_is_another_model(subject):
    edit = Ablate(direction(subject), 0.3)
    with edited(subject, edit):
        writes = logits(subject.model, TEXT)
    with stream_hooks(subject, edit):
        assert apart(logits(subject.model, TEXT), writes) > 1e-2


@pytest.mark.parametrize("layer", [0, LAYERS - 1])
def test_adding_at_a_block_equals_adding_by_hand(subject, layer):
    raw = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    found = Direction.from_vector(raw, position=-1, layer=layer, provenance=provenance(subject))

    def add(module, args, kwargs):
        if args:
            return (args[0] - 0.5 * raw, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"] - 0.5 * raw}

    block = subject.model.get_submodule(subject.anatomy.blocks[layer])
    handle = block.register_forward_pre_hook(add, with_kwargs=True)
    by_hand = logits(subject.model, TEXT)
    handle.remove()
    with edited(subject, Add(found, coefficient=-0.5)):
        assert apart(logits(subject.model, TEXT), by_hand) < SAME
    with edited(subject, Add(found * 2, layer=layer, coefficient=-0.25)):
        assert apart(logits(subject.model, TEXT), by_hand) < SAME


def test_adding_nothing_leaves_every_bit_as_it_was(subject):
    before = logits(subject.model, TEXT)
    with edited(subject, Add(direction(subject), coefficient=0.0)):
        assert torch.equal(logits(subject.model, TEXT), before)


def test_adding_reaches_every_position(llama):
    before = logits(llama.model, TEXT)
    with edited(llama, Add(direction(llama))):
        after = logits(llama.model, TEXT)
    assert ((after - before).abs().amax(dim=-1) > 1e-3).all()


@given(seed=st.integers(0, 10_000), norm=st.floats(1e-6, 1e6), width=st.integers(2, 64))
def test_the_random_control_has_the_norm_of_what_it_controls(seed, norm, width):
    vector = torch.randn(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    vector *= norm / vector.norm()
    control = random_vector(vector, seed=seed)
    assert float(control.norm()) == pytest.approx(norm, rel=1e-12)
    assert torch.equal(control, random_vector(vector, seed=seed))
    assert not torch.equal(control, random_vector(vector, seed=seed + 1))


def test_the_random_control_points_nowhere_in_particular():
    """Over many seeds its cosine with the original is 0 +- 1 / sqrt(d), not 1."""
    vector = torch.ones(400, dtype=torch.float64)
    cosines = torch.stack([random_vector(vector, seed=s) @ vector / 400 for s in range(200)])
    assert abs(float(cosines.mean())) < 4 / (400 * 200) ** 0.5
    assert float(cosines.std()) == pytest.approx(400**-0.5, rel=0.25)
