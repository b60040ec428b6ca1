"""How far the property tests look: the same short walk each time, or `pytest --hypothesis-profile explore` for a long one."""

from hypothesis import HealthCheck, settings

_COMMON = {
    "stateful_step_count": 40,
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much],
}
settings.register_profile("steady", derandomize=True, max_examples=40, **_COMMON)
settings.register_profile("explore", max_examples=2000, **_COMMON)
settings.load_profile("steady")
