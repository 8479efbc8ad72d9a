"""Which files are sound, and where the denoised ones go."""

from __future__ import annotations

import importlib.util
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rtden.errors import AudioFileError, InputError
from rtden.extras import install_command
from rtden.samples import MOST_CHANNELS, check_rate

DENOISED = ".denoised"
MANIFEST = "rtden-manifest.jsonl"


class Muxer(NamedTuple):
    """How FFmpeg writes the files of a suffix."""

    name: str
    codec: str  # the encoder of sound whose own codec cannot be written
    sound_only: bool = False


MUXERS = {
    ".m4a": Muxer("mp4", "aac", True), ".m4b": Muxer("mp4", "aac", True),
    ".m4r": Muxer("mp4", "aac", True), ".3ga": Muxer("3gp", "aac", True),
    ".f4a": Muxer("mp4", "aac", True), ".weba": Muxer("webm", "libopus", True),
    ".adts": Muxer("adts", "aac", True), ".3gpp": Muxer("3gp", "aac"),
    ".3gpp2": Muxer("3g2", "aac"), ".divx": Muxer("avi", "libmp3lame"),
    ".m2t": Muxer("mpegts", "aac"), ".mod": Muxer("mpeg", "mp2"), ".tod": Muxer("mpegts", "aac"),
    ".aac": Muxer("adts", "aac", True), ".ac3": Muxer("ac3", "ac3", True),
    ".eac3": Muxer("eac3", "eac3", True), ".amr": Muxer("amr", "libopencore_amrnb", True),
    ".wma": Muxer("asf", "wmav2", True), ".mka": Muxer("matroska", "libopus", True),
    ".wv": Muxer("wv", "wavpack", True), ".tta": Muxer("tta", "tta", True),
    ".mp2": Muxer("mp2", "mp2", True), ".mp4": Muxer("mp4", "aac"), ".m4v": Muxer("mp4", "aac"),
    ".f4v": Muxer("mp4", "aac"), ".qt": Muxer("mov", "aac"),
    ".mov": Muxer("mov", "aac"), ".mkv": Muxer("matroska", "libopus"),
    ".webm": Muxer("webm", "libopus"), ".wmv": Muxer("asf", "wmav2"), ".asf": Muxer("asf", "wmav2"),
    ".3gp": Muxer("3gp", "aac"), ".3g2": Muxer("3g2", "aac"), ".avi": Muxer("avi", "libmp3lame"),
    ".flv": Muxer("flv", "aac"), ".ts": Muxer("mpegts", "aac"), ".mts": Muxer("mpegts", "aac"),
    ".m2ts": Muxer("mpegts", "aac"), ".mpg": Muxer("mpeg", "mp2"), ".mpeg": Muxer("mpeg", "mp2"),
    ".ogv": Muxer("ogv", "libopus"),
}  # fmt: skip
OTHER_MUXERS = {
    ".ogg": Muxer("ogg", "flac", True), ".oga": Muxer("ogg", "flac", True),
    ".caf": Muxer("caf", "alac", True), ".opus": Muxer("opus", "libopus", True),
}  # fmt: skip
"""For a source of that suffix and codec, which libsndfile does not write, and Opus of any rate."""
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
SUFFIXES = frozenset((
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au",
    ".snd", ".caf", ".w64", ".rf64", ".voc", ".sph", ".nist", ".8svx", ".svx", ".avr", ".paf",
    ".pvf", ".wve", ".htk", ".ircam", ".gsm", ".vox",
))  # fmt: skip
"""Sound files that libsndfile reads and writes."""
UNWRITTEN_SUFFIXES = frozenset((
    ".aa3", ".adx", ".aea", ".ape", ".aptx", ".awb", ".dff", ".dsf", ".dss", ".dts", ".dtshd",
    ".dv", ".g722", ".gxf", ".ismv", ".latm", ".loas", ".mlp", ".mp1", ".mpa", ".mpc", ".mpga",
    ".mxf", ".nut", ".oma", ".qcp", ".ra", ".rm", ".rmvb", ".rso", ".sbc", ".shn", ".sln", ".sox",
    ".spdif", ".spx", ".swf", ".tak", ".thd", ".vob", ".wtv",
))  # fmt: skip
MEDIA_SUFFIXES = UNWRITTEN_SUFFIXES.union(MUXERS)
"""Sound and video files that need PyAV (extra "av")."""
READ_ONLY_SUFFIXES = UNWRITTEN_SUFFIXES.union(("", ".vox"))
"""What cannot be written: the sound goes into a WAV."""
RAW_FORMATS = {
    "s16le": ("PCM_16", "LITTLE"), "s16be": ("PCM_16", "BIG"), "s24le": ("PCM_24", "LITTLE"),
    "s32le": ("PCM_32", "LITTLE"), "f32le": ("FLOAT", "LITTLE"), "f64le": ("DOUBLE", "LITTLE"),
    "s8": ("PCM_S8", "FILE"), "u8": ("PCM_U8", "FILE"), "mulaw": ("ULAW", "FILE"),
    "alaw": ("ALAW", "FILE"), "gsm": ("GSM610", "FILE"), "vox": ("VOX_ADPCM", "FILE"),
}  # fmt: skip
"""FFmpeg's names of headerless sample formats, and libsndfile's."""
DESCRIPTORS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
RAW_SUFFIXES = frozenset((
    ".raw", ".pcm", ".ul", ".al", ".ulaw", ".alaw", ".mulaw", ".sw", ".s16", ".s16le", ".f32",
    ".f32le",
))  # fmt: skip
ENCODED_SUFFIXES = MEDIA_SUFFIXES.union((".mp3",)) - {".sln"}
"""What is no PCM, although it may have no header."""
HEADERS = (
    *(b"RIFF", b"RF64", b"BW64", b"RIFX", b"riff", b"fLaC", b"OggS", b"FORM", b"caff", b".snd"),
    *(b".SoX", b"wvpk", b"TTA1", b"MAC ", b"#!AM", b"FLV\1", b"\x1a\x45\xdf\xa3"),
    *(b"\x30\x26\xb2\x75", b"ID3\2", b"ID3\3", b"ID3\4"),  # WMA, and MP3
)
"""How files begin that say themselves what they hold."""


@dataclass(frozen=True)
class Raw:
    """What a file without a header holds; raises InputError if that cannot be."""

    rate_hz: int
    channels: int = 1
    format: str = "s16le"

    def __post_init__(self) -> None:
        check_rate(self.rate_hz)
        if not 1 <= self.channels <= MOST_CHANNELS:
            raise InputError(f"PCM has 1 to {MOST_CHANNELS} channels, not {self.channels}.")
        if self.format not in RAW_FORMATS:
            raise InputError(
                f"there is no raw format '{self.format}'; choose one of {', '.join(RAW_FORMATS)}."
            )

    @property
    def frame_bytes(self) -> int:
        """Bytes of a sample of each channel, or of GSM's smallest part."""
        bits = "".join(filter(str.isdigit, self.format))
        return 33 if self.format == "gsm" else self.channels * int(bits or 8) // 8

    @property
    def known(self) -> tuple[int, int, str, str, str]:
        """Rate, channels, sample format, byte order and container, as libsndfile wants them."""
        return (self.rate_hz, self.channels, *RAW_FORMATS[self.format], "RAW")


HEADERLESS = {".gsm": Raw(8000, 1, "gsm"), ".vox": Raw(8000, 1, "vox")}
"""Files without a header whose suffix says everything."""


def has_av() -> bool:
    """Return whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def is_stream(name: str) -> bool:
    """Return whether a name is standard input, a pipe or a device: read once, front to back."""
    named = name == "-" or name.startswith(DESCRIPTORS)
    return named or not (os.path.isfile(name) or os.path.isdir(name) or not os.path.exists(name))


def default_target(source: Path) -> Path:
    """Return the path beside a file at which its denoised version goes."""
    suffix = ".wav" if source.suffix.lower() in READ_ONLY_SUFFIXES else source.suffix
    return source.with_name(f"{source.stem}{DENOISED}{suffix}")


def is_result(path: Path) -> bool:
    """Return whether a name is one that rtden gives to its results."""
    return path.stem.endswith(DENOISED)


def entries(content: bytes) -> Iterator[dict[str, Any]]:
    """Yield what the lines of a manifest say was written; torn lines are none."""
    for line in content.splitlines():
        with suppress(ValueError, TypeError, KeyError):
            entry = json.loads(line)
            if entry["status"] == "ok":
                yield {**entry, "target": str(entry["target"])}


def list_audio(
    folder: Path, left_out: list[str] | None = None, results: list[Path] | None = None
) -> list[Path]:
    """Return the sound and video files anywhere below a folder, sorted; rtden's results left out.

    Their names show them, or the manifests in these folders. Hidden files are left out
    too. Links to folders are followed, each folder once. `left_out` gets a sentence for each file
    or folder that cannot be read here, `results` the results.
    """
    found: list[Path] = []
    notes = [] if left_out is None else left_out
    ours = [] if results is None else results
    real = Path(os.path.realpath(folder))
    seen, written = {real, *real.parents}, set[str]()

    def unreadable(error: OSError) -> None:
        notes.append(f"{error.filename} cannot be read ({error.strerror})")

    for top, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        with suppress(OSError):  # without a manifest
            lines = entries(Path(top, MANIFEST).read_bytes())
            written |= {os.path.normpath(os.path.join(top, line["target"])) for line in lines}
        for name in sorted(folders):
            link = os.path.join(top, name)
            place = Path(os.path.realpath(link))
            if name.startswith(".") or (place in seen and os.path.islink(link)):
                folders.remove(name)
            seen.add(place)
        for path in (Path(top, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() not in SUFFIXES | MEDIA_SUFFIXES | RAW_SUFFIXES:
                continue
            if is_result(path) or os.path.normpath(path) in written:
                ours.append(path)
            elif obstacle := _obstacle(path):
                notes.append(f"{path} {obstacle}")
            else:
                found.append(path)
    return sorted(found)


def _obstacle(path: Path) -> str:
    """Return why a sound file in a folder cannot be read here; nothing if it can."""
    suffix = path.suffix.lower()
    if suffix in MEDIA_SUFFIXES and not has_av():
        return f"needs the package av: run {install_command('av')}"
    if suffix in RAW_SUFFIXES:
        return "has no header; name it alone, with its --rate"
    return "" if path.is_file() else "is no file, or a link to none"


@dataclass
class Plan:
    """What to read, where to write, and what is left out."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """A sentence for each file or folder that cannot be read here."""
    results: int = 0
    """How many of the files are results of rtden, and therefore no inputs."""


def plan(sources: list[str], output: str | None) -> Plan:
    """Return the files to read and to write for a list of files and folders.

    A folder stands for the sound files below it. Several files, or a folder, go under the folder
    `output` with their names and subfolders kept, or beside their originals if it is None. Raises
    AudioFileError if a folder holds no sound file, or two files would be written to one place.
    """
    if not all(source.strip() for source in sources):
        raise AudioFileError("one of the names given is empty; name a file, a folder, or '-'.")
    if output is not None and not output.strip():
        raise AudioFileError("the name given with -o is empty; name a file, a folder, or '-'.")
    output = "-" if output in STANDARD_OUTPUT else output
    many = len(sources) > 1 or any(map(os.path.isdir, sources))
    top = output if _is_folder(output, many) else None
    found, names = Plan(), {str(Path(source)) for source in sources}
    for source in sources:
        path = Path(source)
        original = f"{str(path).removesuffix(DENOISED + path.suffix)}{path.suffix}"
        if is_stream(source):
            if top and not many:
                raise AudioFileError(f"{top} is a folder; name the file to write in it.")
            found.pairs.append((source, output or "-"))
        elif many and is_result(path) and original in names:
            found.results += 1
        else:
            for file, relative in _below(path, top, found):
                target = default_target(file)
                if output is not None:
                    target = Path(top, relative.with_suffix(target.suffix)) if top else Path(output)
                found.pairs.append((str(file), str(target)))
    _check_apart(found.pairs)
    return found


def _is_folder(output: str | None, many: bool) -> bool:
    """Return whether `-o` names a folder; raise AudioFileError if it names a file, for several."""
    if output is None:
        return False
    known = Path(output).suffix.lower() in SUFFIXES | MEDIA_SUFFIXES | RAW_SUFFIXES
    folder = os.path.isdir(output) or output.endswith(("/", os.sep)) or (many and not known)
    if many and (output == "-" or not folder or os.path.isfile(output)):
        sentence = f"several files cannot go into the one file {output}; give a folder with -o."
        raise AudioFileError(sentence)
    return folder and output != "-"


def _below(path: Path, output: str | None, plan: Plan) -> Iterator[tuple[Path, Path]]:
    """Yield the files of a path, each with its path below it; not those in `output`."""
    if not os.path.isdir(path):
        yield path, Path(path.name)
        return
    results: list[Path] = []
    found = list_audio(path, plan.left_out, results)
    if output is not None and os.path.realpath(output) != os.path.realpath(path):
        ours = os.path.join(os.path.realpath(output), "")
        found, results = (
            [file for file in files if not os.path.realpath(file).startswith(ours)]
            for files in (found, results)
        )
    if not found and not plan.left_out:
        reason = " but results of rtden" if results else ", such as .wav, .flac, .mp3, .m4a or .mp4"
        raise AudioFileError(f"the folder {path} holds no sound files{reason}; name the files.")
    plan.results += len(results)
    yield from ((file, file.relative_to(path)) for file in found)


def _check_apart(pairs: list[tuple[str, str]]) -> None:
    """Raise AudioFileError if a file would be overwritten that is to be read, or written before."""
    files = [pair for pair in pairs if not is_stream(pair[0])]  # no others go together
    targets = [os.path.realpath(target) for _, target in files if target != "-"]
    sources = {os.path.realpath(source) for source, _ in files}
    if len(pairs) > 1 and (overwritten := sorted(sources.intersection(targets))):
        raise AudioFileError(
            f"{overwritten[0]} would be overwritten, yet it is one of the files to read; "
            "give another folder with -o."
        )
    if twice := next((target for target, times in Counter(targets).items() if times > 1), None):
        raise AudioFileError(
            f"two files would be written to {twice}; denoise them one by one, or give the folder "
            "above them."
        )
