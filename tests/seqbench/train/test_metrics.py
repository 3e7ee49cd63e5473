"""The negative log-likelihood: exact under any batching, and what the definition says."""

import math

import pytest
import torch
import torch.nn.functional as F

from seqbench.cells import find
from seqbench.datamodules.synthetic import Synthetic
from seqbench.model.heads import Bernoulli
from seqbench.record import score_from_parts
from seqbench.task import SeqbenchError
from seqbench.train.metrics import NLL
from seqbench.train.module import SequenceModel


@pytest.fixture(scope="module")
def data() -> Synthetic:
    data = Synthetic(sequences=30, shortest=2, longest_length=40)
    data.setup()
    return data


@pytest.fixture(scope="module")
def model(data) -> SequenceModel:
    return SequenceModel(find("GRU")(), data.task, [0, 1], 1e-3, hidden=7).double().eval()


def one_by_one(model: SequenceModel, data: Synthetic) -> tuple[list[list[float]], list[int]]:
    """Nats [R][N] and frames [N], one sequence at a time, so without any padding."""
    nats, frames = [], []
    for n, length in enumerate(data.splits["test"].lengths.tolist()):
        batch = data.gather("test", torch.tensor([[n]]))
        probability = torch.sigmoid(model(batch.x)[0][: length - 1, :, 0])
        y = batch.y[: length - 1, :, 0].double()
        on_off = y * probability.log() + (1 - y) * (1 - probability).log()
        nats.append((-on_off.sum((0, 2))).tolist())
        frames.append(length - 1)
    return [list(row) for row in zip(*nats, strict=True)], frames


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_no_batching_and_no_padding_changes_the_figures(model, data, batch_size):
    metric = NLL(2)
    for index in torch.arange(10).split(batch_size):
        padded = F.pad(index, (0, 2), value=-1)  # two empty slots
        metric.update(*model.sequence_nats(data.gather("test", padded[None])))
    nats, frames = one_by_one(model, data)
    result = metric.compute()
    for k in range(2):
        means = [n / f for n, f in zip(nats[k], frames, strict=True)]
        assert result["nll"][k] == pytest.approx(math.fsum(nats[k]) / sum(frames), abs=1e-10)
        assert result["nll_sequence"][k] == pytest.approx(math.fsum(means) / len(means), abs=1e-10)


@torch.no_grad()
def test_frame_one_is_scored_from_the_initial_state(model, data):
    model.w["c"].copy_(torch.linspace(-3, 1, 88)[None, None])
    batch = data.gather("test", torch.tensor([[4]]))
    probability = torch.sigmoid(torch.linspace(-3, 1, 88).double())
    y = batch.x[0, 0, 0].double()
    expected = -(y * probability.log() + (1 - y) * (1 - probability).log()).sum()
    torch.testing.assert_close(model.first_frame_nats(batch), expected.float().double().expand(2, 1), rtol=1e-6, atol=0)


def test_bernoulli_against_torch_distributions(data):
    logits = 5 * torch.randn(3, 2, 4, 88, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.bernoulli(torch.full((3, 1, 4, 88), 0.3, dtype=torch.float64))
    expected = -torch.distributions.Bernoulli(logits=logits).log_prob(y).sum(-1)
    torch.testing.assert_close(Bernoulli(88).nats(logits, y), expected, rtol=0, atol=1e-12)


def test_bernoulli_is_finite_at_extreme_logits(data):
    logits = torch.tensor([1e4, -1e4]).repeat(44).expand(1, 1, 1, 88).requires_grad_()
    nats = Bernoulli(88).nats(logits, torch.zeros(1, 1, 1, 88))
    assert nats.item() == pytest.approx(44e4)
    assert torch.autograd.grad(nats.sum(), logits)[0].isfinite().all()


def test_half_precision_logits_are_summed_in_float32(data):
    logits = torch.zeros(1, 1, 1, 88, dtype=torch.bfloat16)
    nats = Bernoulli(88).nats(logits, torch.zeros(1, 1, 1, 88, dtype=torch.uint8))
    assert nats.dtype == torch.float32
    assert nats.item() == pytest.approx(88 * math.log(2), rel=1e-6)


def test_score_from_parts():
    score = score_from_parts([10.0, 1.00004], [4, 1], [2.0, 3.0])
    assert score.nll == pytest.approx(11 / 5)
    assert score.nll_sequence == pytest.approx((2.5 + 1) / 2)
    assert score.nll_first == pytest.approx(16 / 7)
    assert score.nats == [10.0, 1.0]
    with pytest.raises(SeqbenchError, match="do not fit"):
        score_from_parts([1.0], [1, 2], None)


def test_a_model_in_half_precision_still_sums_in_float64():
    metric = torch.nn.ModuleList([NLL(2)]).to(torch.bfloat16)[0]
    for _ in range(2):
        metric.reset()
        metric.update(torch.full((2, 1000), 8.123), torch.ones(1, 1000, dtype=torch.int64))
        assert metric.compute()["nll"].tolist() == pytest.approx([8.123] * 2, rel=1e-6)
        metric = metric.half()
