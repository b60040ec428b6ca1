"""The section of the operator: Pods of one job, beside the rate that its own limit of requests allows."""

from tests.bench.figure import Absent, Figure, Line

QPS = 200.0
PODS = 500


def pods() -> list[Line]:
    from tests.bench.pods_per_second import pods_per_second  # noqa: PLC0415 - needs a control plane

    try:
        rate = pods_per_second(PODS, QPS)
    except FileNotFoundError as error:
        return [Absent(name=f"{PODS} Pods at --qps {QPS:.0f}", reason=str(error))]
    return [
        Figure(
            name=f"{PODS} Pods at --qps {QPS:.0f}: {rate.pods_per_second:.0f} Pods/s",
            ours=rate.seconds,
            peer=rate.pods / QPS,
            spread=0.0,
            bound=1.5,
        ),
        Figure(
            name="CPU of the operator per Pod", ours=rate.cpu_ms_per_pod, peer=1.5, spread=0.0, bound=1.0, unit="ms"
        ),
    ]
