"""The section of the operator: Pods of one job, beside the rate that its own limit of requests allows."""

from statistics import median

from tests.bench.figure import Absent, Figure, Line, spread

QPS = 200.0
PODS = 500
CPU_MS = 1.5  # of the operator's work for one Pod


def pods(repeats: int) -> list[Line]:
    """Each time with a control plane and an operator of its own."""
    from tests.bench.pods_per_second import pods_per_second  # noqa: PLC0415 - needs a control plane

    try:
        rates = [pods_per_second(PODS, QPS) for _ in range(repeats)]
    except FileNotFoundError as error:
        return [Absent(name=f"{PODS} Pods at --qps {QPS:.0f}", reason=str(error))]
    seconds, cpu_ms = [rate.seconds for rate in rates], [rate.cpu_ms_per_pod for rate in rates]
    return [
        Figure(
            name=f"{PODS} Pods at --qps {QPS:.0f}",
            ours=median(seconds),
            peer=PODS / QPS,
            spread=spread(seconds),
            bound=1.5,
            note=f"wall seconds: {PODS / median(seconds):.0f} Pods/s",
        ),
        Figure(
            name="CPU of the operator per Pod",
            ours=median(cpu_ms),
            peer=CPU_MS,
            spread=spread(cpu_ms),
            bound=1.0,
            unit="ms",
        ),
    ]
