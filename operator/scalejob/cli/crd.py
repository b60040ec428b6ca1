"""`scalejob crd`: the CustomResourceDefinition of this release."""

import click

from scalejob.api.generate import crd_yaml


@click.command("crd")
def crd_command() -> None:
    """Print the CustomResourceDefinition, for `kubectl apply -f -`."""
    click.echo(crd_yaml(), nl=False)
