"""What language models write."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seqbench.datamodules.text_folder import TextFolder
from seqbench.sample.ancestral import draw
from seqbench.task import Batch
from seqbench.train.loading import load_model

LINES = ["the cat sat on the mat", "a dog lay under a cat", "the mat lay on the dog"] * 30


@pytest.fixture(params=["words", "characters"])
def trained(request, fit, seqbench, tmp_path):
    """A run's folder, and its data set."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/some.txt").write_text("\n".join(LINES))
    seqbench("fit", "-c", "text_folder", "--data.root", "texts", "--data.batch_size", "2", "--data.level",
             request.param, "--model.cell", "LSTM", "--model.hidden", "4", "--trainer.max_epochs", "1")  # fmt: skip
    (run,) = tmp_path.glob("runs/text_folder-*")
    return run, TextFolder(root="texts", level=request.param)


def test_a_text_begins_with_its_prime_and_has_the_nats_that_the_model_tests_with(trained, seqbench, capsys):
    run, data = trained
    best = run / "checkpoints/best.ckpt"
    capsys.readouterr()
    seqbench("sample", str(best), "--prime", "0", "--prime-length", "4", "--length", "30", "--json")
    (row,) = json.loads(capsys.readouterr().out)
    text = Path(row["text"]).read_text()
    ids = data.ready().splits["test"].ids[:4]
    began = " ".join(data.spelled(ids)).replace(" <eos> ", "\n") if data.level == "words" else "".join(
        data.spelled(ids)
    )  # fmt: skip
    assert text.strip().startswith(began.strip())
    model = load_model(best)
    drawn = draw(model, 0, 30, prime=ids[:, None].float())
    assert row["nll"] == pytest.approx(float(drawn.nats.mean()))
    read = torch.cat([ids, drawn.y[:, 0].long()])[:, None, None, None]
    steps = torch.arange(33)[:, None, None] >= 3
    with torch.no_grad():
        nats, count = model.sequence_nats(Batch(read[:-1], read[1:], steps, torch.zeros(1, 1, dtype=torch.long)))
    assert int(count) == 30
    assert float(nats / count) == pytest.approx(row["nll"], rel=1e-5)
    longer = draw(model, 0, 40, prime=ids[:, None].float()).y
    assert torch.equal(longer[:30], drawn.y)


def test_without_a_prime_a_line_begins_and_tensorboard_is_given_a_text(trained, seqbench, capsys):
    run, data = trained
    capsys.readouterr()
    seqbench("sample", str(run / "checkpoints/best.ckpt"), "--length", "12", "--json")
    (row,) = json.loads(capsys.readouterr().out)
    known = set(data.known)
    text = Path(row["text"]).read_text()
    assert set(text.split() if data.level == "words" else text) <= known | {"\n"}
    assert {"audio", "midi", "seconds"}.isdisjoint(row)
    (folder,) = {path.parent for path in run.rglob("events.out.tfevents.*")}
    (given,) = EventAccumulator(str(folder)).Reload().Tensors("sample/text/text_summary")
    assert given.tensor_proto.string_val[0].decode().startswith("    given: ")
