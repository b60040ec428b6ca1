"""The state of a fit on disk: whole and of this task, or not used; and never a reason to fail."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from scalejob.api.v1alpha1 import Spec
from scaletrain.checkpoint import NAME, Header, Vault, parse, task_of, to_bytes
from scaletrain.comm import SoloComm
from scaletrain.errors import Preempted
from scaletrain.preemption import Preemption
from scaletrain.progress import Teller
from scaletrain.steps import Steps

STATE = {
    "centers": torch.tensor([[1.5, 2.5]]),
    "step": torch.tensor(3),
    "points": torch.zeros(0, 2, dtype=torch.float64),
}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def spec_of(folder: Path, **more: Any) -> Spec:
    return Spec.model_validate(
        {
            "workload": {"kmeans": {"clusters": 3}},
            "data": {"synthetic": {"blobs": {"rows": 9, "features": 2}}},
            "output": {"uri": str(folder)},
            "checkpoint": {"everySeconds": 60},
            **more,
        }
    )


def vault_of(folder: Path, *, rows: str = "digest", clock: Clock | None = None, **more: Any) -> Vault:
    spec = spec_of(folder, **more)
    return Vault(spec, task_of(spec, 2, rows), clock or Clock())


def steps_of(vault: Vault | None, preemption: Preemption | None = None) -> Steps:
    return Steps(SoloComm(), Teller(write=lambda line: None, every=0), "digest", vault, preemption or Preemption())


def test_what_is_saved_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, dtypes, shapes and bits, with the step and the digest of all steps."""
    assert vault_of(tmp_path).save(7, "abc", STATE)
    saved = parse(vault_of(tmp_path).load())
    assert (saved.header.step, saved.header.digest) == (7, "abc")
    assert all(torch.equal(saved.state[name], value) for name, value in STATE.items())
    assert saved.state["step"].shape == ()
    assert "the fit goes on after step 7" in capsys.readouterr().err


def test_no_file_is_no_news(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first attempt of a job finds nothing, and says nothing of it."""
    assert vault_of(tmp_path).load() == b""
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("place", [0, 70, 400, -1], ids=["digest", "header", "tensors", "last byte"])
def test_a_changed_byte_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: int) -> None:
    """Wherever it is."""
    vault_of(tmp_path).save(7, "abc", STATE)
    content = bytearray((tmp_path / NAME).read_bytes())
    content[place] ^= 1
    (tmp_path / NAME).write_bytes(content)
    assert vault_of(tmp_path).load() == b""
    assert f"{tmp_path}/{NAME} is ignored, the fit begins at the beginning" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"torn", b"\n\n"], ids=["empty", "torn", "lines"])
def test_a_file_of_something_else_is_ignored(tmp_path: Path, content: bytes) -> None:
    """Nothing of it is trusted before its SHA-256 is right."""
    (tmp_path / NAME).write_bytes(content)
    assert vault_of(tmp_path).load() == b""


@pytest.mark.parametrize(
    ("other", "words"),
    [({"seed": 5}, "seed 0 and not 5"), ({"rows": "others"}, "rows digest and not others")],
    ids=["seed", "rows"],
)
def test_a_state_of_another_task_is_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: dict[str, Any], words: str
) -> None:
    """The message says what differs."""
    vault_of(tmp_path).save(7, "abc", STATE)
    assert vault_of(tmp_path, **other).load() == b""
    assert words in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The fit goes on."""
    vault = vault_of(tmp_path / "gone")
    assert not vault.save(1, "", STATE)
    assert not vault.save(2, "", STATE)
    assert capsys.readouterr().err.count("the state of the fit is not saved, the fit goes on") == 1


def test_saving_takes_a_twentieth_of_the_time_at_most(tmp_path: Path) -> None:
    """After a save of ten seconds the next one is due 200 seconds later, not 60."""
    clock = Clock()
    vault = vault_of(tmp_path, clock=clock)
    assert not vault.is_due
    clock.now = 60
    assert vault.is_due

    def slow(files: dict[str, bytes]) -> None:
        clock.now += 10

    vault._folder = type("Slow", (), {"write": staticmethod(slow)})()
    vault.save(1, "", STATE)
    clock.now += 199
    assert not vault.is_due
    clock.now += 1
    assert vault.is_due


def test_the_file_goes_when_the_model_is_written(tmp_path: Path) -> None:
    """The folder is as if there had been none, also if a writer was killed."""
    vault = vault_of(tmp_path)
    (tmp_path / f".{NAME}.0123456789abcdef.part").write_bytes(b"half of it")
    vault.save(1, "", STATE)
    steps_of(vault).forget()
    assert list(tmp_path.iterdir()) == []


def test_a_wish_to_end_is_met_at_the_first_step_that_can_be_resumed(tmp_path: Path) -> None:
    """A step without a rest only gets its digest."""
    preemption = Preemption()
    steps = steps_of(vault_of(tmp_path), preemption)
    steps.offer(1, STATE, dict)
    assert not (tmp_path / NAME).exists(), "it was not due"
    preemption.wished.set()
    steps.offer(2, STATE)
    with pytest.raises(Preempted, match="state saved after SIGTERM at step 3"):
        steps.offer(3, STATE, dict)
    assert parse((tmp_path / NAME).read_bytes()).header.step == 3


def test_digests_go_on_where_the_state_was_saved(tmp_path: Path) -> None:
    """The digest of all steps is that of a fit which was never disturbed."""
    models = [{"x": torch.tensor(float(step))} for step in range(4)]
    whole = steps_of(None)
    for step, model in enumerate(models):
        whole.offer(step, model)
    preemption = Preemption()
    first = steps_of(vault_of(tmp_path), preemption)
    first.offer(0, models[0], dict)
    preemption.wished.set()
    with pytest.raises(Preempted):
        first.offer(1, models[1], dict)
    second = steps_of(vault_of(tmp_path))
    for step in (2, 3):
        second.offer(step, models[step], dict)
    assert second.digests == whole.digests


def test_a_header_of_another_version_is_refused() -> None:
    """Also if the SHA-256 is right."""
    content = to_bytes(Header(task={}, step=1, digest=""), STATE)
    rest = content.partition(b"\n")[2].replace(b'"step"', b'"stop"', 1)
    with pytest.raises(ValueError, match="of another format"):
        parse(sha256(rest).hexdigest().encode() + b"\n" + rest)
