"""`make fuzz`: made-up and damaged files, for FUZZ_SECONDS (300): no traceback, no hang, nothing written elsewhere.

Configs are parsed and held against their places, records read, verified and built into a board, recordings decoded,
.mat and MIDI files read. Each is a good one with a few changes that the case's number decides: `fuzz.py 300 17` tries
case 17 alone. An audit hook of the interpreter watches which files are written and whether a program is started.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import mido
import numpy as np
import scipy.io
import soundfile
import yaml

from seqbench.datamodules.audio import AudioError, Recording, blocks
from seqbench.datamodules.midi_folder import MidiFolder
from seqbench.datamodules.polyphonic import JSBChorales, Nottingham
from seqbench.files import cache_folder
from seqbench.leaderboard.build import build
from seqbench.leaderboard.verify import verify
from seqbench.task import SeqbenchError
from seqbench.train.arguments import CONFIGS
from seqbench.train.audit import CHECKS
from seqbench.train.fitting import SeqbenchCLI

ROOT = Path(__file__).parents[1]
PATIENCE = 60  # seconds of a case
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGING = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
STARTING = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.fork"}
ODD: list[Any] = [
    None, True, 0, -1, 1, 10**30, 1e308, -0.0, "", "x", "..", "/etc", "\x00", "\ud800", "é" * 99, [], {}, [[]],
    {"class_path": "os.system", "init_args": {"command": "touch OWNED"}}, "os.system", "builtins.exec",
    {"class_path": "subprocess.run", "init_args": {"args": ["touch", "OWNED"]}}, "torch.optim.SGD", "GRU", "../x",
    {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"setup": "os.abort"}},
]  # fmt: skip
Case = Callable[[random.Random, Path], None]


class Watch:
    """Collects what is written outside of the folders that may be written to."""

    def __init__(self) -> None:
        self.allowed: tuple[str, ...] = ()
        self.found: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.allowed:
            return
        if event == "subprocess.Popen" and arguments[0] == "git":  # which is asked for what was published
            return
        if event in STARTING:
            self.found.append(f"{event} {arguments[0]!r}")
        elif event in CHANGING or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING):
            path = arguments[0]
            if isinstance(path, str | bytes | os.PathLike):
                place = os.path.realpath(os.fsdecode(path))
                if not place.startswith(self.allowed):
                    self.found.append(f"{event} {place}")


def changed_bytes(draw: random.Random, content: bytes) -> bytes:
    """A few bytes of others' values, some left out, some twice, or cut short."""
    made = bytearray(content)
    for _ in range(draw.randrange(1, 6)):
        place = draw.randrange(len(made) or 1)
        match draw.randrange(5):
            case 0:
                made[place : place + 1] = draw.randbytes(1)
            case 1:
                del made[place : place + draw.randrange(1, 64)]
            case 2:
                made[place:place] = made[place : place + draw.randrange(1, 64)]
            case 3:
                made[place : place + 4] = draw.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"])
            case 4 if draw.random() < 0.3:
                del made[place:]
    return bytes(made)


def changed_values(draw: random.Random, value: Any) -> Any:
    """A value of JSON with a few others in it, at places of any depth."""
    value = json.loads(json.dumps(value))
    for _ in range(draw.randrange(1, 4)):
        inner = value
        while isinstance(inner, dict | list) and inner:
            key = draw.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
            if not isinstance(inner[key], dict | list) or draw.random() < 0.25:
                match draw.randrange(4):
                    case 0:
                        del inner[key]
                    case 1 if isinstance(inner, dict):
                        inner[f"{key}{draw.choice(['', 's', '.x'])}"] = draw.choice(ODD)
                    case _:
                        inner[key] = draw.choice(ODD)
                break
            inner = inner[key]
    return value


def config(draw: random.Random, folder: Path) -> None:
    """A data set's and a protocol's config, changed in values or in bytes, up to what a Trainer is made of."""
    names = [
        draw.choice(["synthetic", "jsb", "fsdd", "wav_folder", "midi_folder"]),
        draw.choice(["chung2014", "levy2018", "quick"]),
    ]
    arguments = ["fit", "--model.cell", draw.choice(["GRU", "LSTM", "LRU"]), "--run.dir", str(folder / "runs")]
    for number, name in enumerate(names):
        content = (CONFIGS / f"{name}.yaml").read_bytes()
        if draw.random() < 0.7:
            content = yaml.safe_dump(changed_values(draw, yaml.safe_load(content))).encode("utf-8", "surrogatepass")
        else:
            content = changed_bytes(draw, content)
        (folder / f"{number}.yaml").write_bytes(content)
        arguments += ["-c", str(folder / f"{number}.yaml")]
    SeqbenchCLI(arguments, execute=False)


def records(draw: random.Random, folder: Path) -> None:
    """A record among sound ones: verified, and built into a board."""
    good = sorted((ROOT / "tests" / "leaderboard" / "records").glob("*.json"))
    for number, path in enumerate(draw.sample(good, 3)):
        content = path.read_bytes()
        if number:
            (folder / path.name).write_bytes(content)
            continue
        if draw.random() < 0.6:
            content = json.dumps(changed_values(draw, json.loads(content))).encode()
        else:
            content = changed_bytes(draw, content)
        (folder / f"other-{path.name}").write_bytes(content)
    for finding in verify(folder, CHECKS):
        assert "\n" not in str(finding), finding
    build(folder, folder / "out")


def recording(draw: random.Random, folder: Path) -> None:
    """A WAV, FLAC or OGG file."""
    kind, coding = draw.choice([("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"),
                                ("OGG", "VORBIS"), ("RF64", "PCM_24"), ("WAVEX", "PCM_16")])  # fmt: skip
    samples = np.sin(np.arange(4000) / 9)[:, None] * np.full((1, draw.randrange(1, 3)), 0.3)
    file = io.BytesIO()
    soundfile.write(file, samples, draw.choice([8000, 11025]), format=kind, subtype=coding)
    path = folder / f"a.{kind[:4].lower()}"
    path.write_bytes(changed_bytes(draw, file.getvalue()))
    try:
        for block in blocks(Recording("a", path, "", None, "a"), 8000):
            assert block.dtype == np.int16
    except AudioError as error:
        raise SeqbenchError(str(error)) from error


def mat(draw: random.Random, folder: Path) -> None:
    """A .mat file of rolls in a mirror: bytes that are not pinned must not come to scipy, whose reader may crash."""
    cell = np.empty((1, 2), dtype=object)
    cell[0] = [np.eye(draw.randrange(1, 9), 88, dtype=np.uint8) for _ in range(2)]
    file = io.BytesIO()
    splits = dict.fromkeys(("traindata", "validdata", "testdata"), cell)
    scipy.io.savemat(file, splits, do_compression=draw.random() < 0.5)
    data = draw.choice([JSBChorales, Nottingham])()
    path = folder / data.file
    path.parent.mkdir()
    path.write_bytes(changed_bytes(draw, file.getvalue()))
    os.environ["SEQBENCH_MIRROR"] = str(folder)
    data.load()


def midi(draw: random.Random, folder: Path) -> None:
    """MIDI files by mido, one of them changed, as a folder: every note is in a roll or counted."""
    for number in range(4):
        made = mido.MidiFile(type=draw.choice([0, 1]), ticks_per_beat=draw.choice([1, 96, 480]))
        for channel in range(1 if made.type == 0 else draw.randrange(1, 4)):
            track = made.add_track("a")
            track.append(mido.MetaMessage("time_signature", numerator=draw.choice([3, 4, 6]), denominator=8))
            for _ in range(draw.randrange(2, 20)):
                kind, delta = draw.choice(["note_on", "note_off"]), draw.choice([0, 1, 100, 480, 2**28 - 1])
                pitch, velocity = draw.randrange(128), draw.choice([0, 64])
                track.append(mido.Message(kind, note=pitch, velocity=velocity, channel=channel, time=delta))
        file = io.BytesIO()
        made.save(file=file)
        content = changed_bytes(draw, file.getvalue()) if number == 0 else file.getvalue() + bytes([number])
        (folder / f"{number}.mid").write_bytes(content)
    skip = draw.random() < 0.7
    data = MidiFolder(str(folder), roller=draw.choice(["canonical", "beats"]), skip_bad=skip)
    data.setup()
    assert all(count > 0 for count in data.report()["left_out"].values())


KINDS: tuple[Case, ...] = (config, records, recording, mat, midi)


def tried(number: int, watch: Watch) -> tuple[str, str]:
    """The kind of a case, and "read", "refused", or what must not be."""
    draw = random.Random(number)
    kind = KINDS[number % len(KINDS)]
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        watch.found.clear()
        watch.allowed = tuple(os.path.realpath(path) for path in (name, cache_folder(), os.devnull))
        signal.alarm(PATIENCE)
        try:
            kind(draw, Path(name))
            end = "read"
        except SeqbenchError as error:
            end = "refused" if "\n" not in str(error) else f"more than a line: {error}"
        except BaseException:  # noqa: BLE001  # a SystemExit or a hang is a find too
            end = traceback.format_exc()
        finally:
            signal.alarm(0)
            watch.allowed = ()
            os.chdir(ROOT)
        found = [*watch.found, *(str(path) for path in Path(name).rglob("OWNED"))]
    return kind.__name__, f"wrote or started: {found[:5]}" if found else end


def too_long(number: int, frame: FrameType | None) -> None:
    """What SIGALRM does."""
    raise TimeoutError(f"more than {PATIENCE} seconds")


def main() -> None:
    """Tries cases until the time is over, or one by its number; exits 1 where something must not be."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    signal.signal(signal.SIGALRM, too_long)
    # Once in a process jsonargparse asks another Python for its path, to look types up there.
    SeqbenchCLI(["fit", "-c", "synthetic", "-c", "quick", "--model.cell", "GRU"], execute=False)
    watch, ends, finds = Watch(), Counter[str](), 0
    until, number = time.monotonic() + seconds, int(sys.argv[2]) if len(sys.argv) > 2 else 0
    while time.monotonic() < until:
        kind, end = tried(number, watch)
        ends[f"{kind} {end if end in ('read', 'refused') else 'FOUND'}"] += 1
        if end not in ("read", "refused"):
            finds += 1
            print(f"case {number}, {kind}: {end}", flush=True)
        if len(sys.argv) > 2:
            break
        number += 1
    print(", ".join(f"{end}: {count}" for end, count in sorted(ends.items())))
    sys.exit(finds > 0)


if __name__ == "__main__":
    main()
