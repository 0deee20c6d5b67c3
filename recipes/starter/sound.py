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
from scipy.signal import fftconvolve, lfilter, sosfilt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Waveform = npt.NDArray[np.float64]

SAMPLE_RATE = 44_100  # Hz
TAIL_SECONDS = 1.5  # kept after the last note has ended, for releases and reverberation
PEAK_LIMIT_DB = -1.0
SYNTH_TIMEOUT_SECONDS = 600
SYNTH_FILE_LIMIT_BYTES = 200_000_000  # a 90 s stereo float file has 32 MB
BEND_RANGE = 24  # semitones of the full pitch wheel, set in each file by RPN 0
BEND_STEP_SECONDS = 0.005  # between two positions of a moving wheel
DRUMS = 9  # the channel of drum kits


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
        weight=0.3,
    ),
    Font(
        "musescore",
        Path("/usr/share/sounds/sf2/MuseScore_General_Full.sf2"),
        "musescore-general-soundfont-lossless",
        "MIT; its piano is in the public domain, its strings CC0",
        weight=0.3,
        related={"all": "fluid: the same but for pianos, string ensembles, brass and synthesizers"},
    ),
    Font(
        "timgm",
        Path("/usr/share/sounds/sf2/TimGM6mb.sf2"),
        "timgm6mb-soundfont",
        "GPL-2",
        weight=0.25,
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
    """One note to be played: seconds, MIDI pitch, velocity 1..127, channel 0..15.

    `bend` is the course of its pitch: seconds since its start and cents, straight in between. It
    is the wheel of its whole channel in a MIDI file.
    """

    start_seconds: float
    length_seconds: float
    pitch: int
    velocity: int
    channel: int
    bend: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Room:
    """A reverberation: seconds to fall by 60 dB, level against the dry sound, and which one."""

    decay_seconds: float
    wet_db: float
    seed: int


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
) -> Waveform:
    """Play events on a font.

    Args:
        events: what to play.
        programs: General MIDI program of each channel, from 0.
        font: where the sounds come from.
        tuning_cents: offset of all notes from A = 440 Hz.

    Returns:
        Waveform [T] whose length depends on the events alone, never on the font.
    """
    real = {channel: font.substitutes.get(p, p) for channel, p in programs.items()}
    melodic = {program for channel, program in real.items() if channel != DRUMS}
    if missing := melodic - programs_of(font.path):
        raise ValueError(f"programs {sorted(missing)} are missing in {font.path}")
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder, "in.mid"), Path(folder, "out.wav")
        midi_file(events, real, tuning_cents).save(midi)
        _run_synth(_command(font, midi, wav))
        waveform, sample_rate = sf.read(wav, always_2d=True)
    if sample_rate != SAMPLE_RATE:
        raise ValueError(f"sample_rate={sample_rate} from the synthesizer")
    return fade_out(waveform.mean(axis=1), n_samples(events))


def n_samples(events: Sequence[Event]) -> int:
    """Return how long a file of these events is, with the tail after them."""
    return round((end_seconds(events) + TAIL_SECONDS) * SAMPLE_RATE)


def midi_file(
    events: Sequence[Event], programs: Mapping[int, int], tuning_cents: float = 0.0
) -> mido.MidiFile:
    """Write events as a MIDI file with one tick a millisecond."""
    end = end_seconds(events)
    timed: list[tuple[int, int, mido.Message]] = []

    def wheel(channel: int, seconds: float, cents: float) -> None:
        pitch = round(8192 * (cents + tuning_cents) / (100 * BEND_RANGE))
        message = mido.Message(
            "pitchwheel", channel=channel, pitch=int(np.clip(pitch, -8192, 8191))
        )
        timed.append((round(1000 * seconds), 2, message))

    for channel, program in programs.items():
        timed.append((0, 0, mido.Message("program_change", channel=channel, program=program)))
        if channel != DRUMS:
            for control, value in ((101, 0), (100, 0), (6, BEND_RANGE), (38, 0)):  # RPN 0
                message = mido.Message(
                    "control_change", channel=channel, control=control, value=value
                )
                timed.append((0, 0, message))
            wheel(channel, 0.0, 0.0)
        # Looped samples never end by themselves: 120 is "all sound off".
        stop = mido.Message("control_change", channel=channel, control=120, value=0)
        timed.append((round(1000 * (end + TAIL_SECONDS)), 4, stop))
    bent: set[int] = set()  # channels whose wheel was left turned
    for event in sorted(events, key=lambda event: event.start_seconds):
        start = round(1000 * event.start_seconds)
        stop_at = max(start + 20, round(1000 * (event.start_seconds + event.length_seconds)))
        note = {"channel": event.channel, "note": event.pitch}
        timed.append((stop_at, 1, mido.Message("note_off", **note)))
        timed.append((start, 3, mido.Message("note_on", velocity=event.velocity, **note)))
        if event.bend:
            times, cents = zip(*event.bend, strict=True)
            last = min(times[-1], event.length_seconds)
            moments = np.arange(0.0, last + BEND_STEP_SECONDS, BEND_STEP_SECONDS)
            for moment in moments:
                at = float(np.interp(moment, times, cents))
                wheel(event.channel, event.start_seconds + moment, at)
            bent.add(event.channel)
        elif event.channel in bent:
            wheel(event.channel, event.start_seconds, 0.0)
            bent.remove(event.channel)
    midi = mido.MidiFile(type=0, ticks_per_beat=1000)
    track = midi.add_track()
    track.append(mido.MetaMessage("set_tempo", tempo=1_000_000))
    now = 0
    for tick, _, message in sorted(timed, key=lambda item: item[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    return midi


def end_seconds(events: Sequence[Event]) -> float:
    """Return when the last note ends."""
    return max(event.start_seconds + event.length_seconds for event in events)


def _command(font: Font, midi: Path, wav: Path) -> list[str]:
    if is_timidity(font):
        effects = ["-EFreverb=d", "-EFchorus=d", "-EFns=0"]
        output = ["-Ow", "--output-24bit", "-s", str(SAMPLE_RATE), "-A40", "-o", str(wav)]
        return ["timidity", "-c", str(font.path), "-idq", *effects, *output, str(midi)]
    settings = ["-R", "0", "-C", "0", "-g", "0.3", "-r", str(SAMPLE_RATE)]
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


def fade_out(waveform: Waveform, n_samples: int) -> Waveform:
    """Crop or pad to a length and fade the last 50 ms, so that a cut tail does not click."""
    fitted = np.zeros(n_samples)
    n_kept = min(n_samples, len(waveform))
    fitted[:n_kept] = waveform[:n_kept]
    n_fade = SAMPLE_RATE // 20
    fitted[-n_fade:] *= np.linspace(1.0, 0.0, n_fade)
    return fitted


def place(waveform: Waveform, room: Room) -> Waveform:
    """Put a dry sound into a room: noise that dies away, its treble first."""
    rng = np.random.default_rng(room.seed)
    n = round(room.decay_seconds * SAMPLE_RATE)
    noise = rng.standard_normal((2, n))
    seconds = np.arange(n) / SAMPLE_RATE
    k = float(np.exp(-2 * np.pi * rng.uniform(1500, 6000) / SAMPLE_RATE))
    dark = lfilter([1 - k], [1, -k], noise[0])
    bright = noise[1] - lfilter([1 - k], [1, -k], noise[1])
    fall = -3 * np.log(10) / room.decay_seconds * seconds
    response = dark * np.exp(fall) + bright * np.exp(2.5 * fall)
    response *= np.minimum(1, seconds / rng.uniform(0.002, 0.02))
    wet = fftconvolve(waveform, response)[: len(waveform)]
    gain = np.sqrt(np.mean(waveform**2) / max(float(np.mean(wet**2)), 1e-12))
    return np.asarray(waveform + 10 ** (room.wet_db / 20) * gain * wet)


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


def mix(waveform: Waveform, other: Waveform, other_db: float) -> Waveform:
    """Add another sound at a level against the first one's."""
    own, its = (float(np.sqrt(np.mean(one**2))) for one in (waveform, other))
    return waveform + other * 10 ** (other_db / 20) * own / max(its, 1e-9)


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
