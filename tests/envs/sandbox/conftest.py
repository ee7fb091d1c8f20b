from collections.abc import Callable, Iterator

import pytest
from tests.envs.sandbox import rig

from ludora.envs.sandbox.base import Limits
from ludora.envs.sandbox.build import open_sandbox
from ludora.envs.sandbox.roots import Root, setup
from ludora.envs.sandbox.talk import Running

Opens = Callable[..., Running]


@pytest.fixture(scope="session")
def root() -> Iterator[Root]:
    """A root file system of this machine's programs, in a store of its own."""
    rig.need()
    with rig.open_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUDORA_CACHE", str(folder))
        yield setup("host", lambda text: None)


@pytest.fixture(scope="session")
def writable() -> Iterator[Root]:
    """A root file system with a /usr that an agent can write to, in a store of its own."""
    rig.need()
    with rig.open_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUDORA_CACHE", str(folder))
        made = setup(str(rig.writable_archive(folder / "writable.tar")), lambda text: None)
        patch.undo()
        yield made


@pytest.fixture
def opens(root: Root) -> Iterator[Opens]:
    """Opens sandboxes, and closes them after the test."""
    made: list[Running] = []

    def open_one(limits: Limits = Limits()) -> Running:  # noqa: B008
        made.append(open_sandbox(limits, root=root))
        return made[-1]

    yield open_one
    for sandbox in made:
        sandbox.close()


@pytest.fixture
def sandbox(opens: Opens) -> Running:
    return opens()
