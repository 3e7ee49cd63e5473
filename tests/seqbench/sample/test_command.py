"""`seqbench sample`, and what is left of a run for it: best.ckpt in each replica's folder, events with sound."""

import io
import json

import numpy as np
import pytest
import soundfile
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from seqbench import record
from seqbench.sample.ancestral import draw
from seqbench.train.callbacks import Replicas
from seqbench.train.loading import load_model


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """A group of two of which one ends in the second epoch and is dropped: the runs, and their records by name."""
    import seqbench

    folder = tmp_path_factory.mktemp("group")
    start = Replicas.on_train_epoch_start

    def drop(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            pl_module.alive[1] = False
        start(self, trainer, pl_module)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Replicas, "on_train_epoch_start", drop)
        flags = {"model.cell": "GRU", "model.hidden": 5, "model.seed": [0, 1], "model.rate": [1e-3, 1e-2]}
        flags |= {"trainer.max_epochs": 3, "run.dir": folder / "runs", "run.sample_every": 1}
        found = seqbench.fit("synthetic", "chung2014", **flags)
    return folder / "runs", {one.run_id: one for one in found}


def test_each_replicas_folder_tells_it_apart_and_tests_as_it_did(group, seqbench, capsys):
    """The dropped one's too."""
    runs, records = group
    assert len(records) == 2
    for run_id, found in records.items():
        config = yaml.safe_load((runs / run_id / "config.yaml").read_text())
        assert (config["model"]["seed"], config["model"]["rate"]) == (found.seed, found.rate)
        assert (runs / run_id / f"GRU-rate{found.rate:g}-seed{found.seed}").is_dir()
        capsys.readouterr()
        seqbench("test", "-c", str(runs / run_id / "config.yaml"),
                 "--ckpt_path", str(runs / run_id / "checkpoints/best.ckpt"))  # fmt: skip
        assert f"test {found.test.nll:.4f} nats/frame" in capsys.readouterr().out


def test_nothing_goes_on_from_the_best_weights_alone(group, refusal):
    runs, records = group
    folder = runs / next(iter(records))
    line = refusal("fit", "-c", str(folder / "config.yaml"), "--run.overwrite", "true",
                   "--ckpt_path", str(folder / "checkpoints/best.ckpt"))  # fmt: skip
    assert "last.ckpt" in line


def test_samples_of_a_group_and_of_its_replicas_are_the_same_files(group, seqbench, tmp_path, capsys):
    runs, records = group
    (checkpoint,) = runs.glob("group-*/checkpoints/last.ckpt")
    seqbench("sample", str(checkpoint), "--length", "9", "--prime", "2", "--prime-length", "4", "--json",
             "--out", str(tmp_path / "all"))  # fmt: skip
    rows = json.loads(capsys.readouterr().out)
    assert [(row["replica"], row["trained_seed"], row["trained_rate"]) for row in rows] == [(0, 0, 1e-3), (1, 1, 1e-2)]
    for row, (run_id, found) in zip(rows, records.items(), strict=True):
        stem = f"GRU-rate{found.rate:g}-seed{found.seed}-prime2-sample0"
        best = runs / run_id / "checkpoints/best.ckpt"
        seqbench("sample", str(best), "--length", "9", "--prime", "2", "--prime-length", "4", "--json")
        (alone,) = json.loads(capsys.readouterr().out)
        for kind, ending in (("audio", "wav"), ("midi", "mid")):
            assert row[kind] == str(tmp_path / f"all/{stem}.{ending}")
            path = runs / run_id / f"samples/{stem}.{ending}"
            assert alone[kind] == str(path)
            assert path.read_bytes() == (tmp_path / f"all/{stem}.{ending}").read_bytes()
        audio, rate = soundfile.read(io.BytesIO(path.with_suffix(".wav").read_bytes()))
        assert len(audio) == round((4 + 9) * 0.5 * rate)
        assert alone["nll"] == row["nll"]
    capsys.readouterr()
    seqbench("sample", str(checkpoint), "--replica", "1", "--length", "5", "--format", "ogg", "--seed", "4",
             "--temperature", "0.5", "--out", str(tmp_path / "one"))  # fmt: skip
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {f"GRU-rate0.01-seed1-sample4-temperature0.5.{ending}" for ending in ("ogg", "mid")}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--replica", "2"], "no replica 2"),
        (["--replica", "-1"], "no replica -1"),
        (["--prime", "16"], "no test sequence 16"),
        (["--prime", "0", "--prime-length", "99"], "primes with 1 to"),
        (["--prime-length", "3"], "add --prime N"),
        (["--temperature", "0"], "positive temperature"),
        (["--temperature", "inf"], "positive temperature"),
        (["--length", "0"], "not a positive whole number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes(group, refusal, tmp_path, arguments, told):
    runs, _ = group
    (checkpoint,) = runs.glob("group-*/checkpoints/last.ckpt")
    assert told in refusal("sample", str(checkpoint), "--out", str(tmp_path / "out"), *arguments)
    assert not (tmp_path / "out").exists()


def test_a_file_where_a_folder_should_be(group, refusal, tmp_path):
    runs, _ = group
    (checkpoint,) = runs.glob("group-*/checkpoints/last.ckpt")
    (tmp_path / "file").write_text("")
    line = refusal("sample", str(checkpoint), "--length", "5", "--out", str(tmp_path / "file"))
    assert line.endswith("give another --out")
    line = refusal("extract", str(checkpoint), "--replica", "0", "--run-dir", str(tmp_path / "file"))
    assert line.endswith("give another --run-dir")
    (best, *_) = runs.glob("*/checkpoints/best.ckpt")
    assert "has the best epoch's weights alone" in refusal("extract", str(best), "--replica", "0")


def test_what_is_not_of_the_suite_is_not_imported(group, refusal, tmp_path):
    runs, records = group
    saved = torch.load(runs / next(iter(records)) / "checkpoints/best.ckpt", weights_only=True)
    for section, told in (("data", "no data set of the suite"), ("model", "no unit of the suite")):
        config = json.loads(json.dumps(saved["seqbench"]["config"]))
        (config["model"]["cell"] if section == "model" else config["data"])["class_path"] = "os.path.Evil"
        path = tmp_path / f"{section}.ckpt"
        torch.save(saved | {"seqbench": saved["seqbench"] | {"config": config}}, path)
        assert told in refusal("sample", str(path))
    changed = saved["seqbench"]["config"]["data"]["init_args"] | {"data_seed": 5}
    config = saved["seqbench"]["config"] | {"data": saved["seqbench"]["config"]["data"] | {"init_args": changed}}
    torch.save(saved | {"seqbench": saved["seqbench"] | {"config": config}}, path)
    assert "other data" in refusal("sample", str(path))


def test_tensorboard_hears_what_sample_writes(group, music):
    """After epochs by option while a replica trains, and at the end with the best weights of each."""
    runs, records = group
    for number, (run_id, found) in enumerate(records.items()):
        (folder,) = (path.parent for path in (runs / run_id).glob("*/events.out.tfevents.*"))
        events = EventAccumulator(str(folder)).Reload()
        steps = [48, 96, 144, 144] if number == 0 else [48, 96, 144]
        heard = events.Audio("sample/audio")
        assert [one.step for one in heard] == [one.step for one in events.Images("sample/roll")] == steps
        audio, rate = soundfile.read(io.BytesIO(heard[-1].encoded_audio_string))
        given = music.gather("test", torch.zeros(1, 1, dtype=torch.long)).x.shape[0] // 2
        frames = min(given, 10) + 20  # 5 seconds of a prime and 10 drawn, at two frames a second
        assert len(audio) == round(frames * 0.5 * rate)
        picture = np.asarray(Image.open(io.BytesIO(events.Images("sample/roll")[-1].encoded_image_string)))
        blue = (picture == (31, 99, 180)).all(-1).sum() / (4 * picture.shape[1] / frames)
        model = load_model(runs / run_id / "checkpoints/best.ckpt")
        prime = music.gather("test", torch.zeros(1, 1, dtype=torch.long)).x[: min(given, 10), 0, 0]
        assert blue == draw(model, 0, 20, prime=prime).y.sum()
        assert events.Scalars("test/nll")[0].value == pytest.approx(found.test.nll, rel=1e-5)


def test_the_tab_of_settings_is_filled(group):
    runs, records = group
    for run_id, found in records.items():
        (folder,) = (path.parent for path in (runs / run_id).glob("*/events.out.tfevents.*"))
        told = EventAccumulator(str(folder)).Reload().SummaryMetadata
        read = {
            tag: plugin_data_pb2.HParamsPluginData.FromString(told(tag).plugin_data.content)
            for tag in (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG, metadata.EXPERIMENT_TAG)
        }
        start = read[metadata.SESSION_START_INFO_TAG].session_start_info.hparams
        settings = {name: value.string_value or value.number_value for name, value in start.items()}
        assert settings["unit"] == "GRU"
        assert settings["protocol"] == "chung2014"
        assert (settings["rate"], settings["seed"], settings["hidden"]) == (found.rate, found.seed, 5)
        assert (settings["optimizer"], settings["schedule"]) == ("ChungRMSProp", "LinearLR")
        metrics = [m.name.tag for m in read[metadata.EXPERIMENT_TAG].experiment.metric_infos]
        assert set(metrics) == {"valid/nll", "test/nll"}
        assert read[metadata.SESSION_END_INFO_TAG].session_end_info.status == 1  # success


def test_samples_change_neither_a_runs_name_nor_its_figures(fit, monkeypatch, tmp_path):
    ((name, found),) = fit("--run.sample_every", "1").items()
    monkeypatch.setattr("seqbench.train.recorder.listen", lambda *arguments: None)
    fit("--run.dir", "runs/plain")
    plain = record.load(tmp_path / "runs/plain" / name / "record.json")
    assert (plain.test, plain.valid, plain.train, plain.config) == (found.test, found.valid, found.train, found.config)
    assert (plain.curve.valid, plain.curve.gradient) == (found.curve.valid, found.curve.gradient)


def test_a_run_is_over_before_its_samples_are_drawn(fit, monkeypatch, tmp_path):
    """Whatever becomes of them, its record stays."""

    def broken(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("seqbench.train.recorder.listen", broken)
    with pytest.raises(SystemExit):
        fit()
    (path,) = tmp_path.glob("runs/*/record.json")
    assert record.load(path).status == "finished"
