"""nn~: the file is called as the host does, block by block, in a process that has no umt."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from core.audio.levels import ArrayRecording
from core.export.live import live_translator
from core.export.nn_tilde import write_nn_tilde
from core.families.spectral.salience import LOWEST_KEY
from core.key_range import KeyRange
from core.translator import Translator


class Host:
    """What nn~ does with a file; see `perform` and `set_attribute` of its backend."""

    def __init__(self, path):
        self.model = torch.jit.load(str(path)).eval()

    def params(self, name):
        return getattr(self.model, f"{name}_params").tolist()

    @property
    def smallest_block(self):
        return max(max(self.params(own)[1::2]) for own in self.model.get_methods())

    @torch.inference_mode()
    def perform(self, signals, method="forward", n_batches=1):
        """Map float [channels * batch, n] to the same of as many samples."""
        n_in, ratio_in, n_out, ratio_out = self.params(method)
        x = signals.reshape(n_in, n_batches, -1, ratio_in)[..., -1].permute(1, 0, 2)
        y = getattr(self.model, method)(x)
        y = y.repeat_interleave(ratio_out).reshape(n_batches, n_out, -1)
        assert y.shape[2] == signals.shape[1]
        return y

    def play(self, signals, method="forward", block=1024, n_batches=1):
        blocks = signals.split(block, dim=1)
        return torch.cat([self.perform(own, method, n_batches) for own in blocks], dim=2)

    def set(self, name, text):
        """Set an attribute as a message in a patch does; return whether it was possible."""
        assert name in self.model.get_attributes()
        (kind,) = self.params(name)
        convert = [lambda own: own not in ("0", "false"), lambda own: int(float(own)), float, str]
        return getattr(self.model, f"set_{name}")(convert[kind](text)) == 0

    def get(self, name):
        (value,) = getattr(self.model, f"get_{name}")()
        return value


@pytest.fixture(scope="module")
def model(tiny_spectral):
    own = Translator.create(tiny_spectral, ["organ", "piano"]).eval()
    own.level_db = None  # hosts leave levels to who plays
    return own


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    own = tmp_path_factory.mktemp("nn") / "model.ts"
    write_nn_tilde(model, ["piano", "organ"], own)
    return own


@pytest.fixture(scope="module")
def loaded(path):
    return Host(path)


@pytest.fixture
def host(loaded):
    defaults = {"target": "piano", "mix": "1", "transpose": "0", "gain": "0", "sample_rate": "8000"}
    assert all(loaded.set(name, value) for name, value in defaults.items())
    assert loaded.set("reset", "1")
    with torch.jit.optimized_execution(False):  # compiling takes longer than these few frames
        yield loaded


@pytest.fixture(scope="module")
def music(model):
    """Return notes, float [1, T], in whole blocks of 4096."""
    t = torch.arange(4096) / model.sample_rate
    own = sum(torch.sin(2 * torch.pi * 220 * h * t) / h for h in range(1, 6))
    return (0.1 * own * torch.exp(-3 * (t % 0.3)))[None]


def distance(one, other):
    """Return the mean difference of power spectra over time, in nepers."""
    spectra = [
        np.log((np.abs(np.fft.rfft(own.reshape(-1, 256) * np.hanning(256))) ** 2).mean(0) + 1e-4)
        for own in (one, other)
    ]
    return float(np.abs(spectra[0] - spectra[1]).mean())


def test_forward_sounds_as_live(host, model, music):
    waveform = torch.cat([torch.zeros(1, 2048), music], dim=1)
    # Frames of the two streams begin at the same samples.
    shifted = torch.nn.functional.pad(
        waveform[0], (host.model.live.delay % model.hop_length, 0)
    ).numpy()
    stream = model.translate_streams(
        [ArrayRecording(shifted, model.sample_rate)],
        to="piano",
        options=model.generation_options({"is_live": True}),
        match_level="off",
    )
    expected = np.concatenate(list(next(stream).blocks))[-4096:]
    late = host.model.live.delay

    def play():
        made = host.play(torch.cat([waveform, torch.zeros(1, 2048)], dim=1))[0, 0].numpy()
        return made[late : late + waveform.shape[1]][-4096:]

    own = distance(play(), expected)
    host.set("reset", "1")
    host.set("transpose", "5")
    assert np.abs(expected).max() > 0.01
    assert own < 0.3 * distance(play(), expected)


@pytest.mark.parametrize("block", [2048, 4096])
def test_samples_do_not_depend_on_the_block(host, music, block):
    assert host.smallest_block == 128
    expected = host.play(music, block=1024)
    assert host.set("reset", "1")
    assert torch.equal(host.play(music, block=block), expected)


def test_encode_and_decode_joined_are_forward(host, music):
    expected = host.play(music)
    host.set("reset", "1")
    latents = host.play(music, "encode")
    assert latents.shape[1] == len(host.model.encode_output_labels)
    made = host.play(latents[0], "decode")
    assert torch.equal(made, expected)


def test_silence_gives_silence(host):
    assert not host.play(torch.zeros(1, 4096)).any()


def test_batches_are_streams_of_their_own(host, music):
    both = torch.cat([music, music.flip(1)])
    made = host.play(both, n_batches=2)
    assert made.shape == (2, 1, music.shape[1])
    host.set("reset", "1")
    torch.testing.assert_close(host.play(music), made[:1], atol=1e-4, rtol=0)


def test_mix_of_zero_is_the_input_delayed(host, music):
    assert host.set("mix", "0")
    delay = host.model.live.delay
    made = host.play(music)[0]
    assert torch.equal(made[:, delay:], music[:, :-delay])
    assert not made[:, :delay].any()


def test_target_is_a_domain_or_several_with_shares(host, music):
    made = []
    for target in ("piano", "organ", "piano:0.25,organ:0.75"):
        host.set("reset", "1")
        assert host.set("target", target)
        assert host.get("target") == target
        made.append(host.play(music))
    piano, organ, both = made
    assert (organ - piano).abs().max() > 1e-3
    torch.testing.assert_close(both, 0.25 * piano + 0.75 * organ, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("target", "tuba"), ("target", "piano:2"), ("mix", "1.5"), ("transpose", "49")),
        *(("gain", "inf"), ("sample_rate", "0")),
    ],
)
def test_impossible_values_change_nothing(host, name, value):
    before = host.get(name)
    assert not host.set(name, value)
    assert host.get(name) == before


@pytest.mark.parametrize(("name", "value"), [("mix", 0.5), ("transpose", -3), ("gain", 6)])
def test_values_are_returned_as_set(host, name, value):
    assert host.set(name, str(value))
    assert host.get(name) == value


def test_at_another_rate_pitch_stays(host, model):
    """A tone at the host's rate is translated in tune, and as many samples come out."""
    rate = 3 * model.sample_rate // 2
    assert host.set("sample_rate", str(rate))
    t = torch.arange(8 * 1024) / rate
    tone = 0.2 * torch.sin(2 * torch.pi * 440 * t)[None]
    made = host.play(tone)[0, 0, -4096:]
    spectrum = torch.fft.rfft(made * torch.hann_window(4096), 32768).abs()
    hertz = torch.arange(len(spectrum)) * rate / 32768
    near = (hertz > 300) & (hertz < 600)
    assert abs(float(hertz[near][spectrum[near].argmax()]) - 440) < 4


def test_mix_at_another_rate_is_the_input(host, model):
    rate = 48000 * model.sample_rate // 44100
    assert host.set("sample_rate", str(rate))
    assert host.set("mix", "0")
    t = torch.arange(6 * 1024) / rate
    angle = 2 * torch.pi * 300 * t
    made = host.play(angle.sin()[None])[0, 0, -2048:]
    waves = torch.stack([angle.sin(), angle.cos()], dim=1)[-2048:]  # of any phase
    found = torch.linalg.lstsq(waves, made.unsqueeze(1)).solution
    assert found.norm() == pytest.approx(1, abs=1e-3)
    assert (waves @ found - made.unsqueeze(1)).abs().max() < 2e-3


def test_file_runs_without_umt(path, music, tmp_path, host):
    torch.save(music, tmp_path / "music.pt")
    program = f"""
        import sys
        sys.modules["core"] = None
        import torch
        model = torch.jit.load({str(path)!r})
        music = torch.load({str(tmp_path / "music.pt")!r})
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            made = [model.forward(own[None]) for own in music.split(1024, dim=1)]
        torch.save(torch.cat(made, 2), {str(tmp_path / "made.pt")!r})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, check=True)
    made = torch.load(tmp_path / "made.pt")
    torch.testing.assert_close(made, host.play(music), atol=1e-5, rtol=0)


def test_what_is_exported_has_the_ranges_of_its_targets(tiny_spectral):
    model = Translator.create(tiny_spectral, ["organ", "piano"])
    model.ranges = {"piano": KeyRange(48, 72)}
    piano, organ = live_translator(model, ["piano", "organ"]).networks.decoders
    low = torch.full((1, 1, tiny_spectral.model.latent_dim), -0.9)
    low[0, 0, 40 - LOWEST_KEY] = 0.6
    moved = piano.fold(low)[0, 0]
    assert moved[52 - LOWEST_KEY] == low[0, 0, 40 - LOWEST_KEY] > moved[40 - LOWEST_KEY]
    assert torch.equal(organ.fold(low), low)
