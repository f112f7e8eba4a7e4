"""Pip pins of what is installed here, for the environment a logged model runs in."""

from importlib import metadata


def installed(*packages: str) -> list[str]:
    """Return `name==version` of each package.

    A local version such as torch's `+cpu` is left out: it names a build that others cannot find.
    """
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in packages]
