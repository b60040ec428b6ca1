"""Where the API server is and who we are."""

from pathlib import Path

import pytest
import yaml

from scalejob.kube.config import ConfigError, TokenFile, from_kubeconfig


def write(path: Path, user: dict[str, str], current: str = "c") -> Path:
    document = {
        "current-context": current,
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1/"}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_token_of_a_kubeconfig(tmp_path: Path):
    """The current context decides."""
    config = from_kubeconfig(write(tmp_path / "k", {"token": "t"}))
    assert (config.server, config.token, config.ssl) == ("http://127.0.0.1:1", "t", None)


def test_token_file_is_relative_to_the_kubeconfig(tmp_path: Path):
    """As kubectl sees it."""
    assert from_kubeconfig(write(tmp_path / "k", {"tokenFile": "t"})).token_path == tmp_path / "t"


@pytest.mark.parametrize(
    ("user", "current", "want"),
    [({}, "x", "context 'x'"), ({"exec": "aws"}, "c", "credential plug-ins are not supported")],
)
def test_what_is_missing_is_named(tmp_path: Path, user: dict[str, str], current: str, want: str):
    """The message says which part of which file is wrong."""
    with pytest.raises(ConfigError, match=want):
        from_kubeconfig(write(tmp_path / "k", user, current))


def test_no_file(tmp_path: Path):
    """A missing file is named."""
    with pytest.raises(ConfigError, match=r"cannot read the kubeconfig .*nowhere"):
        from_kubeconfig(tmp_path / "nowhere")


def test_a_token_is_read_again_after_a_minute(tmp_path: Path):
    """The kubelet replaces it while we run."""
    path, now = tmp_path / "token", [0.0]
    path.write_text("old\n")
    token = TokenFile(path, lambda: now[0])
    assert token.get() == "old"
    path.write_text("new")
    now[0] = 59.0
    assert token.get() == "old"
    now[0] = 60.0
    assert token.get() == "new"
