"""Features to points: where it starts, shells, the order of distances, what is dropped, learned."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from naics_job.config.model_schema import LossConfig, ModelConfig
from naics_job.geometry.lorentz import log_map_origin, on_manifold_error, pairwise_distance, radius
from naics_job.model.embedder import (
    NO_CODE,
    PLACE_SHARE,
    START_EDGE,
    START_TEXT,
    START_WORDS,
    NaicsEmbedder,
    Sizes,
    TextInputs,
    drop_channels,
)
from naics_job.model.noise import RowNoise, StepNoise

NUM_CODES, NUM_QUERIES, HIDDEN, VOCABULARY, LEVELS = 60, 20, 32, 50, 5
TITLE, DESCRIPTION = 0, 1


def noise(num_rows: int, step: int = 0) -> RowNoise:
    return StepNoise.of(step).of_rows(torch.arange(num_rows))


def build(model: ModelConfig, loss: LossConfig, hidden: int = HIDDEN) -> NaicsEmbedder:
    torch.manual_seed(4)
    return NaicsEmbedder(model, loss, Sizes(hidden, VOCABULARY, LEVELS, NUM_CODES)).eval()


def awake(embedder: NaicsEmbedder) -> NaicsEmbedder:
    """Away from its start: experts that act, levels of other lengths."""
    generator = torch.Generator().manual_seed(6)

    def random(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        embedder.experts.out.copy_(random(embedder.experts.out))
        embedder.experts.router.linear.weight.copy_(random(embedder.experts.router.linear.weight))
        for scale in (embedder.log_text, embedder.log_tree, embedder.log_words):
            scale.add_(0.3 * random(scale))
        embedder.null.copy_(random(embedder.null))
        embedder.channel_logits.copy_(random(embedder.channel_logits))
    return embedder


def random_gates(embedder: NaicsEmbedder) -> NaicsEmbedder:
    gates = embedder.query_gates
    gates.word.copy_(torch.tensor([0.7, 1.3]))
    gates.tree.copy_(torch.tensor([0.4, 0.9]))
    gates.confidence_weight.copy_(torch.tensor([0.8, -0.5, 0.3]))
    return embedder


@pytest.fixture
def codes() -> TextInputs:
    """Codes of all levels, twelve of each; channels missing at random, each with its title."""
    generator = torch.Generator().manual_seed(2)

    def random(*shape: int) -> Tensor:
        return normalize(torch.randn(*shape, generator=generator), dim=-1)

    present = torch.rand(NUM_CODES, 4, generator=generator) < 0.6
    present[:, TITLE] = True
    features = random(NUM_CODES, 4, HIDDEN) * present[..., None]
    words = random(NUM_CODES, 8) * torch.rand(NUM_CODES, 1, generator=generator)
    depth = torch.arange(NUM_CODES) % LEVELS + 1
    text = random(NUM_CODES, HIDDEN)
    return TextInputs(features, present, text, words, depth, torch.arange(NUM_CODES))


@pytest.fixture
def queries() -> TextInputs:
    """Texts, half of them read as titles and half as descriptions."""
    generator = torch.Generator().manual_seed(3)
    text = normalize(torch.randn(NUM_QUERIES, HIDDEN, generator=generator), dim=1)
    present = torch.zeros(NUM_QUERIES, 4, dtype=torch.bool)
    present[::2, TITLE] = present[1::2, DESCRIPTION] = True
    words = 0.5 * torch.randn(NUM_QUERIES, 8, generator=generator)
    words = words / words.norm(dim=1, keepdim=True).clamp_min(1)
    channels = text[:, None] * present[..., None]
    none = torch.zeros(NUM_QUERIES, dtype=torch.long)
    return TextInputs(channels, present, text, words, none, none + NO_CODE)


def deepest(codes: TextInputs) -> TextInputs:
    return replace(codes, depth=torch.full_like(codes.depth, LEVELS))


def distances(embedder: NaicsEmbedder, queries: TextInputs, codes: TextInputs) -> Tensor:
    """Of queries to codes, in units of 1 / sqrt(c), float64."""
    curvature = embedder.curvature_value()
    found = [embedder(rows, noise(len(rows.depth))).points.double() for rows in (queries, codes)]
    return curvature**0.5 * pairwise_distance(*found, curvature)


def assert_ranked_by(distance: Tensor, score: Tensor) -> None:
    """The nearest has the highest score, and so on, up to float32."""
    ranked = score.double().gather(1, distance.argsort(dim=1))
    assert ranked.diff(dim=1).max() < 1e-6
    assert (ranked[:, 0] - ranked[:, -1]).min() > 0.1


def test_a_point_is_the_exponential_map_of_text_words_and_tree(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs
) -> None:
    embedder = build(model_config, loss_config)
    encoded = embedder(codes)
    assert embedder.dim == HIDDEN + 8 + 16
    assert encoded.points.shape == (NUM_CODES, embedder.dim + 1)
    assert encoded.points.dtype == torch.float32
    assert on_manifold_error(encoded.points, 1.0).max() < 1e-4
    tangent = log_map_origin(encoded.points, 1.0)
    text, words, tree = tangent.split([HIDDEN, 8, 16], dim=1)
    torch.testing.assert_close(text, START_TEXT * codes.text, rtol=1e-3, atol=1e-4)
    expected = START_TEXT * START_WORDS * normalize(codes.words, dim=1)
    torch.testing.assert_close(words, expected, rtol=1e-3, atol=1e-4)
    length = START_EDGE * codes.depth.float()
    torch.testing.assert_close(tree.norm(dim=1), length, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(tree, length[:, None] * encoded.tree, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(encoded.radius, tangent.norm(dim=1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(encoded.text, codes.text)
    torch.testing.assert_close(encoded.words, normalize(codes.words, dim=1))


def test_the_tree_part_starts_as_the_mean_of_the_mapped_channels(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs
) -> None:
    embedder = build(model_config, loss_config)
    with torch.no_grad():
        embedder.channel_logits.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))
    place = embedder.place(codes)
    for row in range(NUM_CODES):
        own = codes.present[row].nonzero()[:, 0]
        weight = embedder.channel_logits[own].softmax(0)
        mapped = torch.stack([embedder.maps[c] @ codes.features[row, c] for c in own])
        torch.testing.assert_close(place[row], weight @ mapped, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(embedder(codes).tree, normalize(place, dim=1))
    nothing = replace(codes, present=torch.zeros_like(codes.present))
    assert embedder(nothing).points.isfinite().all()


def test_features_of_missing_channels_do_not_matter(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs
) -> None:
    embedder = awake(build(model_config, loss_config))
    other = torch.where(codes.present[..., None], codes.features, torch.randn(NUM_CODES, 4, HIDDEN))
    found = embedder(replace(codes, features=other)).points
    torch.testing.assert_close(found, embedder(codes).points)


def test_an_untrained_model_ranks_exactly_as_the_frozen_cosine(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs, queries: TextInputs
) -> None:
    embedder = build(model_config, loss_config).eval()
    leaves = deepest(codes)
    assert_ranked_by(distances(embedder, queries, leaves), queries.text @ leaves.text.T)


@pytest.mark.parametrize("curvature", [0.01, 1.0, 100.0])
def test_all_codes_of_a_level_lie_on_one_shell(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs, curvature: float
) -> None:
    for change in (lambda module: module, awake):
        embedder = change(build(model_config, replace(loss_config, curvature=curvature)))
        encoded = embedder(codes)
        shells = []
        for level in range(1, LEVELS + 1):
            own = encoded.radius[codes.depth == level]
            torch.testing.assert_close(own, own[:1].expand_as(own), rtol=1e-4, atol=1e-4)
            shells.append(own[0].item())
        assert len({round(shell * curvature**0.5, 2) for shell in shells}) == LEVELS
    torch.testing.assert_close(encoded.radius, radius(encoded.points, curvature))


@pytest.mark.parametrize("curvature", [0.01, 1.0, 100.0])
def test_distances_rank_by_the_weighted_sum_of_inner_products(
    model_config: ModelConfig,
    loss_config: LossConfig,
    codes: TextInputs,
    queries: TextInputs,
    curvature: float,
) -> None:
    config = replace(loss_config, curvature=curvature)
    embedder = random_gates(awake(build(model_config, config))).eval()
    leaves = deepest(codes)
    gates = embedder.query_gates
    place = embedder.place(queries)
    signs = torch.stack(
        [place.norm(dim=1), queries.words.norm(dim=1), torch.ones(NUM_QUERIES)], dim=1
    )
    confidence = (signs @ gates.confidence_weight).sigmoid()
    kind = torch.arange(NUM_QUERIES) % 2  # descriptions are odd
    score = queries.text @ leaves.text.T
    score = score + gates.word[kind, None] * queries.words @ normalize(leaves.words, dim=1).T
    tree = normalize(place, dim=1) @ normalize(embedder.place(leaves), dim=1).T
    score = score + (gates.tree[kind] * confidence)[:, None] * tree
    assert_ranked_by(distances(embedder, queries, leaves), score)
    plain = queries.text @ leaves.text.T  # which is another order
    ranked = plain.gather(1, distances(embedder, queries, leaves).argsort(dim=1))
    assert ranked.diff(dim=1).max() > 0.05


def test_every_curvature_starts_from_the_same_picture(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs, queries: TextInputs
) -> None:
    found = []
    for curvature in (1.0, 0.01, 100.0):
        embedder = random_gates(build(model_config, replace(loss_config, curvature=curvature)))
        for part in (embedder.train(), embedder.eval()):
            found.append((distances(part, queries, codes), distances(part, codes, codes)))
    for pairs in (found[2:4], found[4:]):
        for expected, other in zip(found[:2], pairs, strict=True):
            torch.testing.assert_close(other, expected, rtol=1e-3, atol=2e-3, check_dtype=False)


def test_training_asks_half_for_their_place_and_gates_act_outside_of_it(
    model_config: ModelConfig, loss_config: LossConfig, queries: TextInputs
) -> None:
    embedder = awake(build(model_config, loss_config))
    text, tree = embedder.log_text.exp()[-1], embedder.log_tree.exp()[-1]
    ratio = embedder.log_words.exp()

    def parts() -> tuple[Tensor, ...]:
        tangent = log_map_origin(embedder(queries, noise(NUM_QUERIES)).points, 1.0)
        return tangent.split([HIDDEN, 8, 16], dim=1)

    embedder.eval()
    start = parts()
    torch.testing.assert_close(start[0], text * queries.text, rtol=1e-3, atol=1e-3)
    assert not start[1].any()
    assert not start[2].any()
    random_gates(embedder)
    gated = parts()
    expected = text / ratio * embedder.query_gates.word.repeat(NUM_QUERIES // 2)
    torch.testing.assert_close(gated[1], expected[:, None] * queries.words, rtol=1e-3, atol=1e-3)
    embedder.train()
    trained = parts()
    shown = noise(NUM_QUERIES).uniform("place", 1) < PLACE_SHARE
    assert 0.2 < shown.float().mean() < 0.8
    words = shown * text / ratio * queries.words
    torch.testing.assert_close(trained[1], words, rtol=1e-3, atol=1e-3)
    place = shown * text.square() / tree * normalize(embedder.place(queries), dim=1)
    torch.testing.assert_close(trained[2], place, rtol=1e-3, atol=1e-3)


def test_queries_do_not_move_the_levels(
    model_config: ModelConfig, loss_config: LossConfig, queries: TextInputs, codes: TextInputs
) -> None:
    embedder = awake(build(model_config, loss_config)).train()
    lengths = (embedder.log_text, embedder.log_tree, embedder.log_words)
    (
        embedder(queries, noise(NUM_QUERIES)).points * torch.randn(NUM_QUERIES, embedder.dim + 1)
    ).sum().backward()
    assert all(length.grad is None or not length.grad.any() for length in lengths)
    assert embedder.maps.grad is not None
    assert embedder.maps.grad[:2].any()
    (
        embedder(codes, noise(NUM_CODES)).points * torch.randn(NUM_CODES, embedder.dim + 1)
    ).sum().backward()
    for length in lengths:
        assert length.grad is not None
        assert length.grad.all()


def test_a_text_of_a_known_code_stands_in_its_place(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs
) -> None:
    embedder = awake(build(model_config, loss_config)).eval()
    embedder.length_factors.copy_(torch.tensor([1.5, 0.5]))
    encoded = embedder(codes)
    same = embedder.code_points(codes.depth, codes.text, codes.words, encoded.tree)
    torch.testing.assert_close(same, encoded.points, rtol=1e-4, atol=1e-4)
    level, turned = torch.full_like(codes.depth, 2), (codes.text.flip(0), codes.words.flip(0))
    found = log_map_origin(embedder.code_points(level, *turned, encoded.tree), 1.0)
    expected = log_map_origin(
        embedder.code_points(level, codes.text, codes.words, encoded.tree), 1.0
    )
    torch.testing.assert_close(found[:, -16:], expected[:, -16:], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[:, :-16], expected.flip(0)[:, :-16], rtol=1e-3, atol=1e-3)


def test_length_factors_act_outside_of_training_and_leave_the_order_of_a_query(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs, queries: TextInputs
) -> None:
    embedder = random_gates(awake(build(model_config, loss_config))).train()
    leaves = deepest(codes)

    def parts() -> tuple[Tensor, ...]:
        of_codes = embedder(leaves, noise(len(leaves.depth))).points
        distance = pairwise_distance(embedder(queries, noise(NUM_QUERIES)).points, of_codes, 1.0)
        lengths = log_map_origin(of_codes, 1.0).split([HIDDEN, 8, 16], dim=1)
        return (*(part.norm(dim=1) for part in lengths), distance)

    trained = parts()
    embedder.eval()
    before = parts()
    embedder.length_factors.copy_(torch.tensor([1.5, 2.0]))
    after = parts()
    for factor, one, other in zip((1.5, 3.0, 1.0), before, after, strict=False):
        torch.testing.assert_close(other, factor * one, rtol=1e-3, atol=1e-3)
    assert (after[3] - before[3]).abs().max() > 1e-2
    assert torch.equal(after[3].argsort(dim=1), before[3].argsort(dim=1))
    embedder.train()
    for one, other in zip(trained, parts(), strict=True):
        assert torch.equal(one, other)


def test_codes_and_queries_together_are_as_alone(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs, queries: TextInputs
) -> None:
    embedder = random_gates(awake(build(model_config, loss_config)))
    for mode in (True, False):
        embedder.train(mode)
        every = noise(NUM_CODES + NUM_QUERIES)
        both = embedder(codes.then(queries), every)
        ahead, after = both.rows(slice(NUM_CODES)), both.rows(slice(NUM_CODES, None))
        alone = embedder(codes, noise(NUM_CODES))
        torch.testing.assert_close(ahead.points, alone.points, rtol=1e-4, atol=1e-4)
        apart = embedder(queries, every.at(torch.arange(NUM_CODES, NUM_CODES + NUM_QUERIES)))
        torch.testing.assert_close(after.points, apart.points, rtol=1e-4, atol=1e-4)
        # the experts' statistics are those of the codes
        torch.testing.assert_close(both.importance, alone.importance)
        torch.testing.assert_close(both.load, alone.load)
        torch.testing.assert_close(after.load, alone.load)


def test_centred_channels_have_their_mean_at_the_origin(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs
) -> None:
    shifted = (codes.features + 1.0) * codes.present[..., None]
    embedder = build(model_config, loss_config)
    embedder.center(shifted, codes.present)
    mapped = torch.einsum("nch,cdh->ncd", shifted, embedder.maps) + embedder.map_bias
    for channel in range(4):
        own = mapped[codes.present[:, channel], channel]
        assert own.norm(dim=1).mean() > 0.3
        assert own.mean(0).abs().max() < 1e-5


@pytest.mark.parametrize("dim", [16, 32, 48])
def test_maps_start_as_a_fixed_projection_that_keeps_angles(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs, dim: int
) -> None:
    config = replace(model_config, tree_dim=dim)
    one = build(config, loss_config)
    torch.manual_seed(99)
    other = NaicsEmbedder(config, loss_config, Sizes(HIDDEN, VOCABULARY, LEVELS, NUM_CODES))
    assert torch.equal(one.maps, other.maps)
    start = one.maps[0].detach()
    gram = start @ start.T if dim < HIDDEN else start.T @ start
    torch.testing.assert_close(gram, torch.eye(min(dim, HIDDEN)), rtol=0, atol=1e-5)
    assert one(codes).points.shape == (NUM_CODES, HIDDEN + 8 + dim + 1)


def test_no_words_are_no_dimensions(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs, queries: TextInputs
) -> None:
    embedder = build(replace(model_config, lexical_dim=0), loss_config).eval()
    wordless = replace(codes, words=codes.words[:, :0], depth=deepest(codes).depth)
    asked = replace(queries, words=queries.words[:, :0])
    assert embedder(wordless).points.shape == (NUM_CODES, HIDDEN + 16 + 1)
    assert_ranked_by(distances(embedder, asked, wordless), queries.text @ codes.text.T)


def test_every_parameter_learns_and_gradients_are_finite(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs
) -> None:
    embedder = awake(build(model_config, replace(loss_config, learn_curvature=True)))
    encoded = embedder(codes)
    (encoded.points * torch.randn_like(encoded.points)).sum().backward()
    for name, parameter in embedder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    assert not any("query_gates" in name for name, _ in embedder.named_parameters())
    assert {"query_gates.word", "lexical.table", "experts.bias"} < set(embedder.state_dict())


def test_channel_dropout_never_takes_the_last_channel() -> None:
    torch.manual_seed(0)
    present = torch.rand(4000, 4) < 0.5
    present[:, 1] = True
    kept = drop_channels(present, 0.6, noise(4000))
    assert not (kept & ~present).any()
    assert kept.any(1).all()
    several = present.sum(1) == 4
    share = kept[several].float().mean()
    # 0.4 survive, plus one of four wherever all four were dropped (0.6 ** 4 of the codes)
    assert abs(share - (0.4 + 0.6**4 / 4)) < 0.02
    assert torch.equal(drop_channels(present, 0.0, noise(4000)), present)
    assert not torch.equal(drop_channels(present, 0.6, noise(4000, step=1)), kept)
    rows = torch.randperm(4000)[:70]
    assert torch.equal(drop_channels(present[rows], 0.6, noise(4000).at(rows)), kept[rows])
    alone = torch.eye(4, dtype=torch.bool)
    assert torch.equal(drop_channels(alone, 0.99, noise(4)), alone)


@pytest.mark.parametrize("key", ["channel_dropout", "feature_dropout", "moe"])
def test_dropout_acts_in_training_only_and_follows_step_and_row(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs, key: str
) -> None:
    value = replace(model_config.moe, dropout=0.5) if key == "moe" else 0.5
    embedder = awake(build(replace(model_config, **{key: value}), loss_config))
    first = embedder.train()(codes, noise(NUM_CODES)).points
    assert torch.equal(embedder(codes, noise(NUM_CODES)).points, first)
    assert not torch.equal(embedder(codes, noise(NUM_CODES, step=1)).points, first)
    for rows in torch.randperm(NUM_CODES).tensor_split(3):  # whoever stands beside them
        some = TextInputs(**{name: tensor[rows] for name, tensor in vars(codes).items()})
        part = embedder(some, noise(NUM_CODES).at(rows)).points
        torch.testing.assert_close(part, first[rows], rtol=1e-4, atol=1e-3)
    with pytest.raises(AssertionError, match="noise of the step"):
        embedder(codes)
    still = embedder.eval()(codes).points
    assert torch.equal(still, embedder(codes, noise(NUM_CODES)).points)


def test_points_are_float32_under_autocast(
    model_config: ModelConfig, loss_config: LossConfig, codes: TextInputs
) -> None:
    embedder = awake(build(model_config, loss_config))
    with torch.autocast("cpu", torch.bfloat16):
        encoded = embedder(codes)
    for name in ("points", "text", "words", "tree", "gates", "radius"):
        assert getattr(encoded, name).dtype == torch.float32, name
    assert on_manifold_error(encoded.points, 1.0).max() < 1e-4
    own = encoded.radius[codes.depth == 2]
    torch.testing.assert_close(own, own[:1].expand_as(own), rtol=1e-3, atol=1e-3)


def test_learned_curvature_starts_at_the_setting_and_stays_within_its_range(
    model_config: ModelConfig, loss_config: LossConfig
) -> None:
    fixed = build(model_config, replace(loss_config, curvature=0.5))
    assert fixed.curvature == fixed.curvature_value() == 0.5
    assert "curvature_shift" not in dict(fixed.named_parameters())
    learned = build(model_config, replace(loss_config, curvature=0.5, learn_curvature=True))
    assert learned.curvature_value() == pytest.approx(0.5)
    shift = learned.curvature_shift
    assert shift is not None
    for value, expected in ((50.0, 5.0), (-50.0, 0.05)):
        with torch.no_grad():
            shift.fill_(value)
        assert learned.curvature_value() == pytest.approx(expected)


@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_learned_curvature_has_a_gradient_far_from_the_start(
    model_config: ModelConfig,
    loss_config: LossConfig,
    codes: TextInputs,
    queries: TextInputs,
    shift: float,
) -> None:
    embedder = build(model_config, replace(loss_config, learn_curvature=True)).train()
    assert embedder.curvature_shift is not None
    with torch.no_grad():
        embedder.curvature_shift.fill_(shift)
    curvature = embedder.curvature
    assert isinstance(curvature, Tensor)
    assert abs(math.log(float(curvature.detach()))) == pytest.approx(
        abs(math.log(10) * math.tanh(shift)), abs=1e-5
    )
    points = embedder(queries, noise(NUM_QUERIES)).points, embedder(codes, noise(NUM_CODES)).points
    distance = curvature**0.5 * pairwise_distance(*points, curvature)
    distance.mean().backward()
    grad = embedder.curvature_shift.grad
    assert grad is not None
    assert grad.isfinite()
    assert grad.abs() > 1e-3
