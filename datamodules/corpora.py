"""Open speech corpora, each under both protocols: its address, checksum, speakers and own split in one place.

FSDD and YESNO are checked file by file when they are decoded. The others are downloaded by torchaudio.datasets, which
checks the archive; where they lie unpacked in a mirror, only the number of recordings is checked. They are sought as
speech/... in the folder SEQBENCH_MIRROR, then in the cache.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from seqbench.datamodules.archives import check_content, checksum, counted, members, unpacked
from seqbench.datamodules.audio import Recording
from seqbench.datamodules.base import Split
from seqbench.datamodules.fetch import Source, fetch
from seqbench.datamodules.speech import Speech
from seqbench.task import SeqbenchError, unknown_name

FSDD_COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
ARCHIVE_BYTES = 64 * 2**20  # the recordings of FSDD have 21 MB


class FSDD(Speech):
    """Free Spoken Digit Dataset: 3000 digits by 6 speakers, 21.9 minutes.

    Its own test split is recordings 0-4 of each digit and speaker; here 5-9 are the validation split.
    """

    name = "fsdd"
    title = "FSDD"
    origin = "github.com/Jakobovski/free-spoken-digit-dataset; CC BY-SA 4.0"
    corpus_rate = 8000
    file = "speech/free-spoken-digit-dataset.tar.gz"
    url = f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{FSDD_COMMIT}.tar.gz"
    content = "1801eae019c063377d98f831d3f93574f259475df7332bb0e3d1b080fb5e6959"

    def recordings(self) -> list[Recording]:
        path = fetch(Source(self.file, self.url, None))
        files = members(path, "recordings", ".wav", ARCHIVE_BYTES)
        check_content(path, files, self.content)
        found = []
        for name, content in files.items():
            _, speaker, number = name.removesuffix(".wav").split("_")
            split: Split = "test" if int(number) < 5 else "valid" if int(number) < 10 else "train"
            found.append(Recording(name, content, speaker, split, name))
        return found


class YesNo(Speech):
    """YESNO: 60 recordings of one man who says yes or no eight times, 6.1 minutes; fewer sequences than Ubisoft had."""

    name = "yesno"
    title = "YESNO"
    origin = "openslr.org/1; no licence is stated in the archive"
    fewer: ClassVar[dict[str, dict[str, int]]] = {
        "A": {"train": 4688, "valid": 580, "test": 584},
        "B": {"train": 294, "valid": 36, "test": 36},
    }
    corpus_rate = 8000
    file = "speech/waves_yesno/README"
    content = "fb665bc02a7483ff126b2a825dfc857f4b9d3ec2ebcd34e660b521333422a35b"

    def recordings(self) -> list[Recording]:
        from torchaudio.datasets import YESNO

        folder = unpacked("waves_yesno", partial(YESNO, download=True))
        paths = sorted(folder.glob("*.wav"))
        pinned = {path.name: path.read_bytes() for path in [folder / "README", *paths] if path.is_file()}
        check_content(folder, pinned, self.content)
        return [Recording(p.name, p, "one", None, p.name) for p in paths]


class SpeechCommands(Speech):
    """Speech Commands v0.02: 105,829 words of one second by thousands of speakers; its own split is by speaker."""

    name = "speech_commands"
    title = "Speech Commands"
    origin = "Warden 2018, arXiv 1804.03209; CC BY 4.0"
    corpus_rate = 16_000
    file = "speech/SpeechCommands/speech_commands_v0.02/validation_list.txt"
    expected = 105_829

    @property
    def content(self) -> str:
        from torchaudio.datasets.speechcommands import _CHECKSUMS

        return checksum(_CHECKSUMS, "speech_commands_v0.02")

    def recordings(self) -> list[Recording]:
        from torchaudio.datasets import SPEECHCOMMANDS

        folder = "SpeechCommands/speech_commands_v0.02"
        path = unpacked(folder, partial(SPEECHCOMMANDS, download=True))
        subsets: dict[str, Split] = {"training": "train", "validation": "valid", "testing": "test"}
        found = []
        for subset, split in subsets.items():
            corpus = SPEECHCOMMANDS(path.parents[1], subset=subset)
            for n in range(len(corpus)):
                name, _, _, speaker, _ = corpus.get_metadata(n)
                found.append(Recording(name, path.parent / name, speaker, split, name))
        return counted(found, self.expected, path)


class LJSpeech(Speech):
    """LJSpeech 1.1: 13,100 sentences read by one woman, 24 hours."""

    name = "ljspeech"
    title = "LJSpeech"
    origin = "keithito.com/LJ-Speech-Dataset; public domain"
    corpus_rate = 22_050
    file = "speech/LJSpeech-1.1/metadata.csv"
    expected = 13_100

    @property
    def content(self) -> str:
        from torchaudio.datasets.ljspeech import _RELEASE_CONFIGS

        return str(_RELEASE_CONFIGS["release1"]["checksum"])

    def recordings(self) -> list[Recording]:
        from torchaudio.datasets import LJSPEECH

        folder = unpacked("LJSpeech-1.1", partial(LJSPEECH, download=True))
        paths = sorted((folder / "wavs").glob("*.wav"))
        return counted([Recording(p.name, p, "one", None, p.name) for p in paths], self.expected, folder)


class CMUArctic(Speech):
    """CMU ARCTIC: the same 1,132 sentences read by each speaker, about an hour.

    Args:
        voices: Whose recordings, by torchaudio's names.
        **options: As in Speech.
    """

    name = "cmu_arctic"
    title = "CMU ARCTIC"
    origin = "festvox.org/cmu_arctic, Kominek and Black 2003; free software"
    corpus_rate = 16_000
    file = "speech/ARCTIC/cmu_us_bdl_arctic/etc/txt.done.data"

    def __init__(self, voices: tuple[str, ...] = ("bdl", "clb", "rms", "slt"), **options: Any) -> None:
        super().__init__(**options)
        self.voices = voices

    @property
    def content(self) -> str:
        from torchaudio.datasets.cmuarctic import _CHECKSUMS

        return " ".join(checksum(_CHECKSUMS, f"cmu_us_{voice}_arctic") for voice in sorted(self.voices))

    def recordings(self) -> list[Recording]:
        return [recording for voice in self.voices for recording in self._voice(voice)]

    def _voice(self, voice: str) -> list[Recording]:
        from torchaudio.datasets import CMUARCTIC

        folder = unpacked(f"ARCTIC/cmu_us_{voice}_arctic", partial(CMUARCTIC, url=voice, download=True))
        text = (folder / "etc" / "txt.done.data").read_text(encoding="utf-8")
        paths = sorted((folder / "wav").glob("*.wav"))
        found = [Recording(f"{voice}/{p.name}", p, voice, None, f"{voice}/{p.name}") for p in paths]
        return counted(found, len(text.strip().splitlines()), folder)


class LibriSpeech(Speech):
    """LibriSpeech: 1,000 hours of audio books; its own split is by speaker.

    Args:
        train: Its training sets; all three make 960 hours. Validation is dev-clean, test is test-clean.
        **options: As in Speech.
    """

    name = "librispeech"
    title = "LibriSpeech"
    origin = "openslr.org/12, Panayotov et al. 2015; CC BY 4.0"
    corpus_rate = 16_000
    file = "speech/LibriSpeech/train-clean-100/103/1240/103-1240.trans.txt"
    expected: ClassVar[dict[str, int]] = {
        "train-clean-100": 28_539,
        "train-clean-360": 104_014,
        "train-other-500": 148_688,
        "dev-clean": 2_703,
        "test-clean": 2_620,
    }

    def __init__(self, train: tuple[str, ...] = ("train-clean-100",), **options: Any) -> None:
        super().__init__(**options)
        known = [subset for subset in self.expected if subset.startswith("train")]
        if not train:
            raise SeqbenchError(f"train is empty: give some of {', '.join(known)}")
        for subset in train:
            if subset not in known:
                raise unknown_name("training set", subset, known)
        self.subsets: dict[str, Split] = dict.fromkeys(sorted(set(train)), "train")
        self.subsets |= {"dev-clean": "valid", "test-clean": "test"}

    @property
    def content(self) -> str:
        from torchaudio.datasets.librispeech import _CHECKSUMS

        return " ".join(checksum(_CHECKSUMS, subset) for subset in self.subsets)

    def recordings(self) -> list[Recording]:
        from torchaudio.datasets import LIBRISPEECH

        found = []
        for subset, split in self.subsets.items():
            path = unpacked(f"LibriSpeech/{subset}", partial(LIBRISPEECH, url=subset, download=True))
            corpus = LIBRISPEECH(path.parents[1], subset)
            rows = [corpus.get_metadata(n) for n in range(len(corpus))]
            part = [Recording(row[0], path.parent / row[0], str(row[3]), split, row[0]) for row in rows]
            found += counted(part, self.expected[subset], path)
        return found
