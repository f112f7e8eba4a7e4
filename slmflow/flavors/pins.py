"""Pip pins of installed packages, for the environment of a logged model."""

from importlib import metadata


def pin_installed(*packages: str) -> list[str]:
    """Return `name==version` of each package.

    Drops local versions such as torch's `+cpu`: they name a build that other machines cannot find.
    """
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in packages]
