"""From timed notes to a waveform: SoundFonts, synthesizers, equaliser and level.

In: a list of `Event` in seconds with one General MIDI program a channel. Out: a mono float64
waveform at 44.1 kHz. Two synthesizers are driven, both from Debian: fluidsynth for SoundFonts
and timidity for the GUS patches of freepats. Nothing here is random.
"""

from __future__ import annotations

import hashlib
import re
import resource
import struct
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import mido
import numpy as np
import numpy.typing as npt
import soundfile as sf
from scipy.signal import sosfilt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Waveform = npt.NDArray[np.float64]

SAMPLE_RATE = 44_100  # Hz
TAIL_SECONDS = 1.5  # kept after the last note has ended, for releases and reverberation
PEAK_LIMIT_DB = -1.0
SYNTH_TIMEOUT_SECONDS = 180
SYNTH_FILE_LIMIT_BYTES = 200_000_000  # a 90 s stereo float file has 32 MB
BEND_RANGE_CENTS = 200  # default of General MIDI: the full wheel is two semitones


@dataclass(frozen=True)
class Font:
    """One set of instrument samples.

    `weight` is its share of the training files, 0 = held out. `substitutes` names another program
    for one that is missing. `related` tells, by domain, where its recordings are not independent
    of another font's.
    """

    name: str
    path: Path
    package: str
    licence: str
    weight: float
    substitutes: Mapping[int, int] = field(default_factory=dict)
    related: Mapping[str, str] = field(default_factory=dict)


# The one table of sounds.
FONTS = (
    Font(
        "fluid",
        Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
        "fluid-soundfont-gm",
        "MIT",
        weight=0.5,
    ),
    Font(
        "timgm",
        Path("/usr/share/sounds/sf2/TimGM6mb.sf2"),
        "timgm6mb-soundfont",
        "GPL-2",
        weight=0.35,
    ),
    Font(
        "gmbank",
        Path("/usr/share/sounds/sf2/sf_GMbank.sf2"),
        "csound-soundfont",
        "LGPL-2.1+ as part of csound; the file itself says public domain",
        weight=0.15,
        # Found by comparing the sample data: 283 recordings are the same, bit for bit.
        related={"all": "timgm: the same but for some pianos, flute, oboe, horn and ensemble"},
    ),
    Font(
        "freepats",
        Path("/etc/timidity/freepats.cfg"),
        "freepats, played by timidity",
        "GPL-2+ with an exception for compositions that use the patches",
        weight=0.0,
        substitutes={41: 40},  # there is no viola: the violin patch reaches low enough
        # Found by correlating waveforms: low E of the nylon guitar 0.93 over 1.4 s.
        related={"guitar": "fluid: shares recordings", "organ": "fluid: perhaps"},
    ),
)


@dataclass(frozen=True)
class Event:
    """One note to be played: seconds, MIDI pitch, velocity 1..127, channel 0..15."""

    start_seconds: float
    length_seconds: float
    pitch: int
    velocity: int
    channel: int


@dataclass(frozen=True)
class Reverb:
    """Settings of fluidsynth's own reverberation; both 0..1."""

    room_size: float
    level: float


@dataclass(frozen=True)
class Equaliser:
    """Shelf gains and one peak, in dB; the peak's centre in Hz."""

    low_db: float
    high_db: float
    peak_db: float
    peak_hz: float


def is_timidity(font: Font) -> bool:
    """Tell whether a font is a timidity configuration and not a SoundFont file."""
    return font.path.suffix == ".cfg"


@cache
def programs_of(path: Path) -> frozenset[int]:
    """Return the General MIDI programs (from 0) that a font really holds in its bank 0."""
    if path.suffix == ".cfg":
        melodic = path.read_text().split("bank 0")[1]
        return frozenset(int(n) for n in re.findall(r"^\s*(\d+)\s+\S+\.pat", melodic, re.M))
    content = path.read_bytes()
    at = content.rindex(b"phdr")  # 38-byte records: 20 of name, then program and bank
    size = struct.unpack_from("<I", content, at + 4)[0]
    headers = [struct.unpack_from("<HH", content, at + 8 + i + 20) for i in range(0, size - 38, 38)]
    return frozenset(program for program, bank in headers if bank == 0)


@cache
def font_sha256(path: Path) -> str:
    """Hash the samples of a font: the file, or the configuration with every patch beside it."""
    digest = hashlib.sha256(path.read_bytes())
    if path.suffix == ".cfg":
        for patch in sorted(Path("/usr/share/midi/freepats/Tone_000").glob("*.pat")):
            digest.update(patch.read_bytes())
    return digest.hexdigest()


def synthesize(
    events: Sequence[Event],
    programs: Mapping[int, int],
    font: Font,
    *,
    tuning_cents: float = 0.0,
    reverb: Reverb | None = None,
) -> Waveform:
    """Play events on a font.

    Args:
        events: what to play.
        programs: General MIDI program of each channel, from 0.
        font: where the sounds come from.
        tuning_cents: offset of all notes from A = 440 Hz.
        reverb: fluidsynth's reverberation, or None for a dry sound.

    Returns:
        Waveform [T] whose length depends on the events alone, never on the font.
    """
    real = {channel: font.substitutes.get(p, p) for channel, p in programs.items()}
    if missing := set(real.values()) - programs_of(font.path):
        raise ValueError(f"programs {sorted(missing)} are missing in {font.path}")
    end = max(event.start_seconds + event.length_seconds for event in events)
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder, "in.mid"), Path(folder, "out.wav")
        _midi_file(events, real, tuning_cents, end).save(midi)
        _run_synth(_command(font, midi, wav, reverb))
        waveform, sample_rate = sf.read(wav, always_2d=True)
    if sample_rate != SAMPLE_RATE:
        raise ValueError(f"sample_rate={sample_rate} from the synthesizer")
    return _fit(waveform.mean(axis=1), round((end + TAIL_SECONDS) * SAMPLE_RATE))


def _midi_file(
    events: Sequence[Event], programs: Mapping[int, int], tuning_cents: float, end: float
) -> mido.MidiFile:
    """Write events with one tick a millisecond."""
    timed: list[tuple[int, int, mido.Message]] = []
    for channel, program in programs.items():
        bend = round(8192 * tuning_cents / BEND_RANGE_CENTS)
        timed.append((0, 0, mido.Message("program_change", channel=channel, program=program)))
        timed.append((0, 1, mido.Message("pitchwheel", channel=channel, pitch=bend)))
        # Looped samples never end by themselves: 120 is "all sound off".
        stop = mido.Message("control_change", channel=channel, control=120, value=0)
        timed.append((round(1000 * (end + TAIL_SECONDS)), 4, stop))
    for event in events:
        start = round(1000 * event.start_seconds)
        stop_at = max(start + 20, round(1000 * (event.start_seconds + event.length_seconds)))
        note = {"channel": event.channel, "note": event.pitch}
        timed.append((stop_at, 2, mido.Message("note_off", **note)))
        timed.append((start, 3, mido.Message("note_on", velocity=event.velocity, **note)))
    midi = mido.MidiFile(type=0, ticks_per_beat=1000)
    track = midi.add_track()
    track.append(mido.MetaMessage("set_tempo", tempo=1_000_000))
    now = 0
    for tick, _, message in sorted(timed, key=lambda item: item[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    return midi


def _command(font: Font, midi: Path, wav: Path, reverb: Reverb | None) -> list[str]:
    if is_timidity(font):
        effects = ["-EFreverb=d", "-EFchorus=d", "-EFns=0"]
        output = ["-Ow", "--output-24bit", "-s", str(SAMPLE_RATE), "-A40", "-o", str(wav)]
        return ["timidity", "-c", str(font.path), "-idq", *effects, *output, str(midi)]
    settings = ["-R", "0", "-C", "0", "-g", "0.3", "-r", str(SAMPLE_RATE)]
    if reverb is not None:
        values = {"room-size": reverb.room_size, "level": reverb.level, "damp": 0.3, "width": 0.5}
        settings[1] = "1"
        for name, value in values.items():
            settings += ["-o", f"synth.reverb.{name}={value:.3f}"]
    # Without dynamic loading all of the font's 148 MB would be read for each file.
    settings += ["-o", "synth.dynamic-sample-loading=1", "-O", "float", "-T", "wav"]
    return ["fluidsynth", "-ni", "-q", *settings, "-F", str(wav), str(font.path), str(midi)]


def _run_synth(command: Sequence[str]) -> None:
    """Run a synthesizer under a time and a file-size limit: a stuck note would fill the disk."""
    limit = (SYNTH_FILE_LIMIT_BYTES, SYNTH_FILE_LIMIT_BYTES)
    subprocess.run(  # noqa: S603  # the command is built above, from constants and our own paths
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=SYNTH_TIMEOUT_SECONDS,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )


def _fit(waveform: Waveform, n_samples: int) -> Waveform:
    """Crop or pad to a length and fade the last 50 ms, so that a cut tail does not click."""
    fitted = np.zeros(n_samples)
    n_kept = min(n_samples, len(waveform))
    fitted[:n_kept] = waveform[:n_kept]
    n_fade = SAMPLE_RATE // 20
    fitted[-n_fade:] *= np.linspace(1.0, 0.0, n_fade)
    return fitted


def equalise(waveform: Waveform, equaliser: Equaliser) -> Waveform:
    """Apply a low shelf at 200 Hz, a high shelf at 4 kHz and one peak."""
    sections = [
        _shelf(200.0, equaliser.low_db, is_low=True),
        _shelf(4000.0, equaliser.high_db, is_low=False),
        _peak(equaliser.peak_hz, equaliser.peak_db),
    ]
    filtered: Waveform = sosfilt(np.array(sections), waveform)
    return filtered


def _shelf(corner_hz: float, gain_db: float, *, is_low: bool) -> list[float]:
    """First-order shelf by the bilinear transform, as one row of second-order sections."""
    gain = 10 ** (gain_db / 20)
    k = np.tan(np.pi * corner_hz / SAMPLE_RATE)
    # Splitting the gain evenly over zero and pole keeps the corner where it is for +g and -g.
    root = np.sqrt(gain)
    if is_low:  # H(s) = (s + root) / (s + 1 / root)
        b0, b1, a0, a1 = 1 + k * root, k * root - 1, 1 + k / root, k / root - 1
    else:  # H(s) = (root * s + 1) / (s / root + 1)
        b0, b1, a0, a1 = root + k, k - root, 1 / root + k, k - 1 / root
    return [b0 / a0, b1 / a0, 0.0, 1.0, a1 / a0, 0.0]


def _peak(centre_hz: float, gain_db: float) -> list[float]:
    """Second-order peak of about one octave, by the bilinear transform."""
    k = np.tan(np.pi * centre_hz / SAMPLE_RATE)
    root = 10 ** (gain_db / 40)
    damping = k / np.sqrt(2.0)
    up, down = damping * root, damping / root
    b0, b1, b2 = 1 + up + k * k, 2 * (k * k - 1), 1 - up + k * k
    a0, a1, a2 = 1 + down + k * k, 2 * (k * k - 1), 1 - down + k * k
    return [b0 / a0, b1 / a0, b2 / a0, 1.0, a1 / a0, a2 / a0]


def set_level(waveform: Waveform, rms_db: float) -> Waveform:
    """Scale to a level in dBFS RMS, or to less where the peaks would pass -1 dBFS."""
    rms = float(np.sqrt(np.mean(waveform**2)))
    peak = float(np.max(np.abs(waveform)))
    if rms < 1e-5:
        raise ValueError(f"rms={rms:.1e}: the render is silent")
    return waveform * min(10 ** (rms_db / 20) / rms, 10 ** (PEAK_LIMIT_DB / 20) / peak)


def level_db(waveform: Waveform) -> tuple[float, float]:
    """Return the level (RMS) and the peak in dBFS."""
    rms = float(np.sqrt(np.mean(waveform**2)))
    return 20 * float(np.log10(rms)), 20 * float(np.log10(np.max(np.abs(waveform))))
