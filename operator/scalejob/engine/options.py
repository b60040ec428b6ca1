"""What an installer may set."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of the operator; `scalejob operator --help` describes each."""

    trainer_image: str
    namespaces: tuple[str, ...] = ()  # empty: all
    kubeconfig: str | None = None
    lease: tuple[str, str] | None = None  # namespace and name; None: there is one replica
    qps: float = 200.0
    burst: int = 400
    workers: int = 8
    metrics_port: int = 8080
    log_format: str = "json"
    log_level: str = "info"

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """The namespaces to watch one by one; None stands for all at once."""
        return self.namespaces or (None,)
