"""Training as a whole: `seqbench fit` against a training loop in plain PyTorch, for each protocol and head.

Nothing of the suite trains in the plain loop: torch.nn's units, torch's likelihoods, the rules of the papers, one
sequence after the other.  From the suite come the first weights, the order of the sequences and the draws of the noise,
each a function of the seed.  The first epochs agree to rounding; so do the epoch that is best, the one that stops a
run, and what is predicted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from seqbench import record
from seqbench.cells import find
from seqbench.datamodules.base import SequenceData
from seqbench.datamodules.synthetic import Synthetic
from seqbench.datamodules.wav_folder import WavFolder
from seqbench.model.draws import normal
from seqbench.task import SeqbenchError, draw_words
from seqbench.train.fitting import run
from seqbench.train.module import SequenceModel

CONFIGS = Path(__file__).parents[3] / "configs"
AGREE = {"rtol": 0, "atol": 1e-3}  # nats per frame: rounding of 1e-7, amplified by some hundred steps
Nats = Callable[[Tensor, Tensor], Tensor]  # outputs [T, O] and targets [T, K] -> the sequence's nats


@dataclass
class Run:
    """What came out: nats per frame of each epoch, the best epoch and its weights, the epoch in which it diverged."""

    train: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    best: int = -1
    weights: dict[str, Tensor] = field(default_factory=dict)
    diverged: bool = False


class Net(nn.Module):
    """torch.nn.RNN or torch.nn.LSTM and an affine map, with the first weights of a SequenceModel."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        w = {name: value[0].detach() for name, value in model.w.items()}
        I, H = model.task.input_size, model.hidden
        tanh = type(model.cell).__name__ == "Tanh"
        # The suite's gates stand as i, f, o, n; torch's as i, f, n, o.
        order = [0] if tanh else [0, 1, 3, 2]

        def gates(weight: Tensor) -> Tensor:
            blocks = weight.chunk(len(order), -1)
            return torch.cat([blocks[k] for k in order], -1)

        self.rnn = (nn.RNN if tanh else nn.LSTM)(I, H)
        self.head = nn.Linear(H, model.head.outputs)
        with torch.no_grad():
            self.rnn.weight_ih_l0.copy_(gates(w["W"]).T)
            self.rnn.weight_hh_l0.copy_(gates(w["U"]).T)
            self.rnn.bias_ih_l0.copy_(gates(w["b"])[0])
            self.rnn.bias_hh_l0.zero_().requires_grad_(False)
            self.head.weight.copy_(w["V"].T)
            self.head.bias.copy_(w["c"][0])
        self.tanh, self.sizes = tanh, (I, H, len(order))

    def trained(self) -> list[nn.Parameter]:
        return [p for p in self.parameters() if p.requires_grad]

    def shaken(self, sd: float, seed: int, step: int) -> dict[str, Tensor]:
        """The parameters with noise on W and U alone, drawn in this order as the suite draws it."""
        I, H, G = self.sizes
        draw = normal(I * G * H + H * G * H, [draw_words(seed, "noise", step)])[0]
        assert self.tanh  # with more gates their order would have to be minded
        noise = {
            "rnn.weight_ih_l0": draw[: I * H].view(I, H).T,
            "rnn.weight_hh_l0": draw[I * H :].view(H, H).T,
        }
        return {n: p + sd * noise[n] if n in noise else p for n, p in self.named_parameters()}


def bernoulli(out: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(out, y, reduction="sum")


def mixture(out: Tensor, y: Tensor) -> Tensor:
    """20 diagonal Gaussians, by torch.distributions."""
    logits, mean, log_sigma = out.split([20, 20 * y.shape[-1], 20 * y.shape[-1]], -1)
    shape = (20, y.shape[-1])
    each = torch.distributions.Normal(mean.unflatten(-1, shape), log_sigma.unflatten(-1, shape).exp())
    parts = torch.distributions.Independent(each, 1)
    return (
        -torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=logits), parts).log_prob(y).sum()
    )


class Chung:
    """librnn's rule: RMSProp with momentum and a floor; the update, not the gradient, is held to norm 1."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        self.params = params
        self.v, self.m = [torch.zeros_like(p) for p in params], [torch.zeros_like(p) for p in params]

    def step(self, grads: list[Tensor], rate: float) -> None:
        for g, v, m in zip(grads, self.v, self.m, strict=True):
            v.copy_(0.95 * v + 0.05 * g * g)
            m.copy_(0.9 * m - rate * g / torch.maximum(v.sqrt(), torch.tensor(0.01)))
        norm = math.sqrt(sum(float((m**2).sum()) for m in self.m))
        for p, m in zip(self.params, self.m, strict=True):
            p.add_(m * min(1.0, 1.0 / norm))


class Nesterov:
    """Sutskever et al. 2013 as torch writes it."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        self.params, self.m = params, [torch.zeros_like(p) for p in params]

    def step(self, grads: list[Tensor], rate: float) -> None:
        for p, g, m in zip(self.params, grads, self.m, strict=True):
            m.copy_(0.9 * m + g)
            p.sub_(rate * (g + 0.9 * m))


class Adam:
    """Kingma & Ba 2015, algorithm 1."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        self.params, self.t = params, 0
        self.v, self.m = [torch.zeros_like(p) for p in params], [torch.zeros_like(p) for p in params]

    def step(self, grads: list[Tensor], rate: float) -> None:
        self.t += 1
        for p, g, v, m in zip(self.params, grads, self.v, self.m, strict=True):
            m.copy_(0.9 * m + 0.1 * g)
            v.copy_(0.999 * v + 0.001 * g * g)
            p.sub_(rate * (m / (1 - 0.9**self.t)) / ((v / (1 - 0.999**self.t)).sqrt() + 1e-8))


def plain(
    model: SequenceModel,
    data: SequenceData,
    nats: Nats,
    rule: type[Chung] | type[Nesterov] | type[Adam],
    rate: float,
    epochs: int,
    *,
    falls: bool = False,
    noise: float = 0.0,
    clip: float = math.inf,
    patience: int | None = None,
    seed: int = 0,
) -> Run:
    """A run with the first weights of `model`; the rate falls linearly to 1% in the last epoch where `falls`."""
    net, run, order = Net(model), Run(), data.train_dataloader()
    update, step = rule(net.trained()), 0

    def of(split: str, n: int, weights: dict[str, Tensor]) -> tuple[Tensor, int]:
        batch = data.gather(split, torch.tensor([[n]]))
        frames = int(batch.mask.sum())
        x, y = batch.x[:frames, 0].float(), batch.y[:frames, 0, 0].float()

        h, _ = torch.func.functional_call(net.rnn, {k[4:]: v for k, v in weights.items() if k.startswith("rnn.")}, x)
        out = F.linear(h[:, 0], weights["head.weight"], weights["head.bias"])
        return nats(out, y), frames

    for epoch in range(epochs):
        now = rate * (1 - 0.99 * epoch / max(1, epochs - 1)) if falls else rate
        order.set_epoch(epoch)
        total = frames = 0.0
        for index in order:
            weights = net.shaken(noise, seed, step) if noise else dict(net.named_parameters())
            parts = [of("train", n, weights) for n in index[0].tolist()]
            loss, scored = sum(p[0] for p in parts), sum(p[1] for p in parts)
            total, frames = total + loss.item(), frames + scored
            run.diverged |= not loss.item() < 10 * model.task.target_size * math.log(2) * scored
            grads = list(torch.autograd.grad(loss / len(parts), net.trained()))
            norm = math.sqrt(sum(float((g**2).sum()) for g in grads))
            with torch.no_grad():
                if not run.diverged:
                    update.step([g * min(1.0, clip / norm) for g in grads], now)
            step += 1
        with torch.no_grad():
            own = dict(net.named_parameters())
            parts = [of("valid", n, own) for n in range(len(data.splits["valid"].lengths))]
        run.train.append(total / frames)
        run.valid.append(float(sum(p[0] for p in parts)) / sum(p[1] for p in parts))
        if run.diverged:
            break
        if run.best < 0 or run.valid[-1] < run.valid[run.best]:
            run.best, run.weights = epoch, {n: p.detach().clone() for n, p in net.named_parameters()}
        if patience is not None and epoch - run.best >= patience:
            break
    return run


def fit(folder: Path, protocol: str, unit: str, hidden: int, *flags: str, data: str = "synthetic") -> record.Record:
    """One run of `seqbench fit` with a protocol's config; its record."""
    configs = ["-c", str(CONFIGS / f"{data}.yaml"), "-c", str(CONFIGS / f"{protocol}.yaml")]
    run(["fit", *configs, "--model.cell", unit, "--model.hidden", str(hidden), "--run.dir", str(folder), *flags])
    (path,) = folder.glob("*/record.json")
    return record.load(path)


def first_model(unit: str, hidden: int, data: SequenceData, sd: float | None = None) -> SequenceModel:
    data.setup()
    return SequenceModel(find(unit)(), data.task, 0, hidden=hidden, initial_sd=sd)


def agree(found: record.Record, expected: Run, epochs: int) -> None:
    for split in ("train", "valid"):
        curve, plain = getattr(found.curve, split)[:epochs], getattr(expected, split)[:epochs]
        torch.testing.assert_close(torch.tensor(curve), torch.tensor(plain), **AGREE)


@pytest.mark.parametrize(("noise", "rate"), [(0.0, 0.003), (0.075, 0.003)])
def test_chung2014_is_the_released_rule(tmp_path, noise, rate):
    """Batch 1, nats summed, the update held to norm 1, noise on W and U alone, the rate falling once an epoch."""
    flags = ["--model.noise", str(noise), "--model.rate", str(rate), "--trainer.max_epochs", "12"]
    found = fit(tmp_path, "chung2014", "Tanh", 9, *flags)
    data = Synthetic(batch_size=1, order="shuffled")
    model = first_model("Tanh", 9, data)
    expected = plain(model, data, bernoulli, Chung, rate, 12, falls=True, noise=noise)
    agree(found, expected, 12)
    assert found.best_epoch == expected.best
    assert len(found.curve.valid) == 12


def test_chung2014_in_batches_averages_over_sequences(tmp_path):
    flags = ["--model.noise", "0", "--model.rate", "0.02", "--trainer.max_epochs", "8", "--data.batch_size", "7"]
    found = fit(tmp_path, "chung2014", "Tanh", 9, *flags)
    data = Synthetic(batch_size=7, order="shuffled")
    agree(found, plain(first_model("Tanh", 9, data), data, bernoulli, Chung, 0.02, 8, falls=True), 8)


def test_greff2015_is_nesterovs_rule_from_normal_weights(tmp_path):
    found = fit(tmp_path, "greff2015", "LevyLSTM", 8, "--model.rate", "0.001", "--trainer.max_epochs", "8")
    data = Synthetic(batch_size=1, order="shuffled")
    agree(found, plain(first_model("LevyLSTM", 8, data, 0.1), data, bernoulli, Nesterov, 0.001, 8), 8)


OVERFITS = ["--data.sequences", "3", "--model.rate", "0.05", "--run.patience", "3", "--trainer.max_epochs", "60"]


def overfitted() -> tuple[SequenceModel, SequenceData, Run]:
    """Three sequences are soon known by heart: the best epoch is the fourth, by half a nat."""
    data = Synthetic(batch_size=1, order="shuffled", sequences=3)
    model = first_model("LevyLSTM", 8, data)
    return model, data, plain(model, data, bernoulli, Adam, 0.05, 60, patience=3)


def test_levy2018_is_adam_and_its_patience_ends_it(tmp_path):
    """Patience 3: the run ends three epochs after its best, not two and not four."""
    found = fit(tmp_path, "levy2018", "LevyLSTM", 8, *OVERFITS)
    _, _, expected = overfitted()
    agree(found, expected, 7)
    assert (len(expected.valid), expected.best) == (7, 3)
    assert (found.status, len(found.curve.valid), found.best_epoch) == ("finished", 7, 3)


def test_a_clipped_gradient_is_clipped_by_its_norm(tmp_path):
    flags = ["--model.rate", "0.02", "--trainer.max_epochs", "6", "--trainer.gradient_clip_val", "1.5"]
    found = fit(tmp_path, "greff2015", "Tanh", 9, *flags)
    data = Synthetic(batch_size=1, order="shuffled")
    model = first_model("Tanh", 9, data, 0.1)
    agree(found, plain(model, data, bernoulli, Nesterov, 0.02, 6, clip=1.5), 6)
    free = plain(model, data, bernoulli, Nesterov, 0.02, 6)
    assert max(abs(a - b) for a, b in zip(found.curve.train, free.train, strict=False)) > 0.1


def test_a_loss_beyond_ten_coin_tosses_a_target_has_diverged(tmp_path):
    """At this rate the loss lies between the bound and a hundred times it: the epoch is the plain loop's."""
    flags = ["--model.rate", "1.0", "--trainer.max_epochs", "6"]
    found = fit(tmp_path, "greff2015", "Tanh", 9, *flags)
    data = Synthetic(batch_size=1, order="shuffled")
    expected = plain(first_model("Tanh", 9, data, 0.1), data, bernoulli, Nesterov, 1.0, 6)
    assert expected.diverged
    assert found.status == "diverged"
    assert len(found.curve.valid) == len(expected.valid)


@pytest.fixture
def recordings(tmp_path) -> Path:
    """A folder of twelve recordings: gliding tones with noise."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for n in range(12):
        g = np.random.default_rng(n)
        tone = np.sin(np.cumsum(2 * np.pi * np.linspace(100 + 20 * n, 400, 1600) / 8000))
        soundfile.write(folder / f"{n}.wav", (4000 * tone + 50 * g.standard_normal(1600)).astype(np.int16), 8000)
    return folder


def test_chung2014_speech_is_the_same_rule_on_a_mixture(tmp_path, recordings, monkeypatch):
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "cache"))
    where = ["--data.root", str(recordings), "--data.batch_size", "5"]
    flags = [*where, "--model.noise", "0.02", "--model.rate", "0.002", "--trainer.max_epochs", "5"]
    found = fit(tmp_path / "runs", "chung2014_speech", "Tanh", 12, *flags, data="wav_folder")
    data = WavFolder(root=str(recordings), batch_size=5)
    expected = plain(first_model("Tanh", 12, data), data, mixture, Chung, 0.002, 5, falls=True, noise=0.02)
    agree(found, expected, 5)


def test_a_resumed_run_is_refused_where_the_data_have_changed(tmp_path, recordings, monkeypatch):
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "cache"))
    flags = ["--data.root", str(recordings), "--trainer.max_epochs", "2"]
    found = fit(tmp_path / "runs", "chung2014_speech", "Tanh", 5, *flags, data="wav_folder")
    soundfile.write(recordings / "0.wav", np.zeros(1600, np.int16), 8000)
    resume = ["--ckpt_path", str(tmp_path / "runs" / found.run_id / "checkpoints" / "last.ckpt")]
    with pytest.raises(SeqbenchError, match="the data's digest"):
        fit(tmp_path / "runs", "chung2014_speech", "Tanh", 5, *flags, *resume, data="wav_folder")


def test_what_is_predicted_and_drawn_is_the_best_epochs(tmp_path):
    found = fit(tmp_path, "levy2018", "LevyLSTM", 8, *OVERFITS)
    model, data, expected = overfitted()
    folder = tmp_path / found.run_id
    run(["predict", "-c", str(folder / "config.yaml"), "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")])
    predicted = np.load(folder / "checkpoints" / "predictions.npz")["sequence_0"]
    net = Net(model)
    net.load_state_dict(expected.weights)
    x = data.gather("test", torch.tensor([[0]])).x[:, 0].float()
    mean = torch.sigmoid(F.linear(net.rnn(x)[0], net.head.weight, net.head.bias))
    torch.testing.assert_close(torch.from_numpy(predicted), mean.detach(), rtol=0, atol=1e-3)
    events = EventAccumulator(str(folder / f"LevyLSTM-rate{found.rate:g}-seed{found.seed}")).Reload()
    for name, curve in (("train/nll", found.curve.train), ("valid/nll", found.curve.valid)):
        drawn = [event.value for event in events.Scalars(name)]
        assert drawn == pytest.approx(curve, rel=1e-5)
    assert found.curve.train[0] > found.curve.valid[0] + 1
