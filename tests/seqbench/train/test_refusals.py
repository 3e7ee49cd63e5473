"""What `seqbench fit` refuses, in one line each; and that every config is one it takes."""

import sys
from pathlib import Path

import pytest
import yaml

from seqbench.files import at_home
from seqbench.train.arguments import CONFIGS, configured_rate
from seqbench.train.fitting import SeqbenchCLI

BASE = ["-c", "synthetic", "-c", "chung2014", "--model.hidden", "5"]


@pytest.mark.faults("A2", "A3", "F16")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model.cell", "GRRU"], "did you mean GRU"),
        (["--model.cell", "GRU", "--data", "Synthtic"], "did you mean Synthetic"),
        (["--model.cell", "GRU", "--model.nose", "1"], "--model.nose"),
        (["--model.cell", "GRU", "--model.cell.peepholes", "false"], "'peepholes' is not accepted; `seqbench fit"),
        (["--model.cell", "GRU", "--trainer.max_epochs", "x"], "expected int"),
        (["--model.cell", "GRU", "--data.batch_size", "0"], "give 1 or more"),
        (["--model.cell", "GRU", "--data.batch_size", "x"], "--data.batch_size x: expected int"),
        (["--model.cell", "GRU", "--model.budget", "-1"], "must be positive"),
        (
            ["--model.cell", "GRU", "--model.optimizer.floor", "0.1"],
            "has no floor; name one that has it before",
        ),
        (["--model.cell", "GRU", "--data.lag", "5"], "--data.lag: what is chosen there has no lag"),
        (["-c", "zaremba2014_small", "--model.cell", "GRU"], "--data.window: what is chosen there has no window; the"),
        (["--model.cell", "GRU", "--model.rate", "1e-3,6e-4"], "as '[1e-3,6e-4]'"),
        (["--model.cell", "GRU", "--model.rate", "-1"], "error: A learning rate must be positive"),
        (["-c", "jsb,chung2014", "--model.cell", "GRU"], "-c jsb,chung2014: there is no such config; give each"),
        (["--model.cell", "GRU", "--data.order", "sideways"], "--data.order sideways: expected 'bucketed', 'shuffled'"),
        (["--model.cell", "GRU", "--model.optimizer", "torch.optim.Rprop"], "use one of: ChungRMSProp"),
        (["--model.cell", "GRU", "--trainer.gradient_clip_algorithm", "value"], "clipped by norm"),
        (["--model.cell", "GRU", "--ckpt_path", "nowhere.ckpt"], "no checkpoint nowhere.ckpt"),
        (["--model.cell", "GRU", "--run.dir", "/proc/nowhere"], "--run.dir"),
        (["--model.cell", "GRU", "--trainer.gradient_clip_val", "-1"], "0 for none"),
        (["--model.cell", "GRU", "--trainer.min_epochs", "3"], "--run.patience"),
        (["--model.cell", "GRU", "--trainer.val_check_interval", "0.5"], "check_val_every_n_epoch"),
        (["--model.cell", "GRU", "--trainer.val_check_interval", "1"], "check_val_every_n_epoch"),
        (["--model.cell", "GRU", "--trainer.reload_dataloaders_every_n_epochs", "1"], "order of its own"),
        (["--model.cell", "GRU", "--run.patience", "0"], "1 or more"),
        (["--model.cell", "GRU", "--run.sample_every", "0"], "1 or more"),
        (["--model.cell", "GRU", "--model.seed", "9" * 20], "--model.seed: a whole number has more than 64 bits"),
        (["--model.cell", "GRU", "--model.rate", "1e101"], "--model.rate: a number is not finite, or beyond 1e+100"),
        (["--model.cell", "GRU", "--model.noise", "1e99"], "noise 1e+99 cannot be: float32 ends at 3.4e+38"),
        (["--model.cell", "GRU", "--model.hidden", "10000000"], "not enough memory"),
        (["--model.cell", "GRU", "--seed_everything", "42"], "--model.seed"),
        (["--model.cell", "GRU", "--model.schedule", "torch.optim.lr_scheduler.ReduceLROnPlateau"], "take another"),
        (["--model.cell", "GRU", "--trainer.limit_test_batches", "0"], "leaves no record"),
        (["--model.cell", "GRU", "--trainer.check_val_every_n_epoch", "0"], "give 1 or more"),
        (["-c", "nofile.yaml"], "nofile.yaml"),
        (["-cnosuch"], "config 'nosuch'"),
        (["--conf", "jsb", "--model.cell", "GRU"], "unrecognized arguments: --conf jsb"),
        (["--model.cell", "GRU", "--trainer.max_epo", "1"], "unrecognized arguments: --trainer.max_epo 1"),
        (
            ["--model.cell", "GRU", "--trainer.callbacks", "EarlyStopping"],
            "add --trainer.callbacks.monitor VALUE",
        ),
        ([], "--model.cell NAME"),
    ],
)
def test_mistakes_are_told_in_one_line_and_leave_nothing(refusal, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    assert told in refusal("fit", *BASE, *arguments)
    assert not list(tmp_path.iterdir())


def test_misspelt_names_in_a_config_file_are_told(refusal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data.yaml").write_text("data: {class_path: seqbench.datamodules.Nottinghm}")
    Path("cell.yaml").write_text("model: {cell: LSTN}")
    assert "did you mean Nottingham" in refusal("fit", "-c", "data.yaml", "--model.cell", "GRU")
    assert "did you mean LSTM" in refusal("fit", *BASE, "-c", "cell.yaml")


@pytest.mark.faults("A1")
def test_a_finished_run_is_not_overwritten_unasked(fit, refusal, capsys):
    ((name, _),) = fit().items()
    capsys.readouterr()
    line = refusal("fit", *BASE, "--model.cell", "GRU", "--trainer.max_epochs", "3")
    assert name in line
    assert "--run.overwrite" in line


def test_a_run_that_is_begun_anew_tells_how_it_would_have_gone_on(fit, tmp_path, caplog):
    ((name, _),) = fit().items()
    (tmp_path / "runs" / name / "record.json").unlink()
    caplog.clear()
    fit()
    (line,) = (message for message in caplog.messages if "last.ckpt" in message)
    assert line.endswith(f"--ckpt_path runs/{name}/checkpoints/last.ckpt would have gone on from it")


def test_a_damaged_record_is_trained_again_where_that_is_asked(fit, refusal, tmp_path, capsys):
    ((name, _),) = fit().items()
    (path,) = tmp_path.rglob(f"{name}/record.json")
    path.write_text("{")
    capsys.readouterr()
    line = refusal("fit", *BASE, "--model.cell", "GRU", "--trainer.max_epochs", "3")
    assert line.endswith("add --run.overwrite true to train it again")
    assert fit("--run.overwrite", "true")[name].status == "finished"


@pytest.mark.parametrize("named", [["-c", "synthetic"], ["-csynthetic"], ["-c=synthetic"], ["--config=synthetic"]])
def test_configs_are_named_in_all_ways_that_argparse_knows(named):
    cli = SeqbenchCLI(["fit", *named, *BASE[2:], "--model.cell", "GRU"], execute=False)
    assert cli.model.task.name == "synthetic"


@pytest.mark.parametrize(("written", "rate"), [("1e-3", 1e-3), ("0.1", 0.1), ("[1, 2]", None), ("many", None)])
def test_the_rate_that_configs_set(tmp_path, written, rate):
    (tmp_path / "mine.yaml").write_text(f"model: {{rate: {written}}}")
    assert configured_rate(["-c", "lags_today", "-c", str(tmp_path / "mine.yaml")]) == (rate or 3e-3)


def test_runs_are_kept_in_the_home_folder_where_the_shell_leaves_the_tilde():
    flags = [*BASE, "--model.cell", "GRU", "--run.dir=~/runs"]
    assert SeqbenchCLI(["fit", *flags], execute=False).recorder.folder == Path.home() / "runs"
    assert at_home(Path("~nosuchuser/runs")) == Path("~nosuchuser/runs")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_parses(seqbench, monkeypatch, path):
    """With a partner of the other kind: a data set needs a protocol, and one in streams needs one with a window."""
    config = yaml.safe_load(path.read_text())
    kind = "protocol" if "model" in config else "data"
    data = config.get("data", {})
    streams = "window" in data.get("init_args", {}) or "PennTreebank" in data.get("class_path", "")
    partners = ("ptb.yaml", "zaremba2014_small.yaml") if streams else ("synthetic.yaml", "chung2014.yaml")
    both = [CONFIGS / partners[0], path] if kind == "protocol" else [path, CONFIGS / partners[1]]
    files = [flag for file in both for flag in ("-c", str(file))]
    monkeypatch.setattr(SeqbenchCLI, "instantiate_classes", lambda self: sys.exit(0))
    with pytest.raises(SystemExit) as stop:
        seqbench("fit", *files, "--model.cell", "GRU")
    assert stop.value.code == 0
    assert set(yaml.safe_load(path.read_text())) <= {"data", "model", "trainer", "run"}
