"""What the tests of containers share: base images take minutes to make."""

from collections.abc import Iterator

import pytest

from tests.deploy.containers import Store, store

PYTHON = ("python3", "python3-pip", "python-is-python3", "ca-certificates")


@pytest.fixture(name="images", scope="session")
def _images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store in which ``sluice`` has been built, on Debian's Python as its base."""
    with store(tmp_path_factory.mktemp("containers")) as found:
        python = found.base(PYTHON)
        found.must_run(python, "--network=none")
        found.told("podman", "tag", python, "docker.io/library/python:3.13-slim")
        found.build()
        yield found
