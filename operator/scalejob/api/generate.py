"""`python -m scalejob.api.generate [--check]`: writes what is computed from the API models, or says what is out of date."""

import sys
from pathlib import Path

import yaml

from .crd import build_crd
from .reference import build_reference

NOTE = "# Generated from operator/scalejob/api by `make generate`: do not edit.\n"


def crd_yaml() -> str:
    """manifests/crd.yaml; `scalejob crd` prints it."""
    return NOTE + yaml.safe_dump(build_crd(), sort_keys=False, width=110, allow_unicode=True)


def chart_template() -> str:
    """The CRD as a chart template: installed and upgraded with the release, and kept when the release goes."""
    crd = build_crd()
    crd["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    body = yaml.safe_dump(crd, sort_keys=False, width=110, allow_unicode=True)
    return NOTE + "{{- if .Values.crds.install }}\n" + body + "{{- end }}\n"


def outputs() -> dict[str, str]:
    """Path below the root of the repository -> content."""
    return {
        "manifests/crd.yaml": crd_yaml(),
        "charts/scalejob/templates/crd.yaml": chart_template(),
        "docs/reference.md": build_reference(),
    }


def main() -> int:
    stale = []
    for name, text in outputs().items():
        path = Path(name)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'out of date; run make generate' if '--check' in sys.argv else 'written'}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
