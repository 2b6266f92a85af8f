import pytest

from agent_side import Agent


@pytest.fixture(scope="session")
def agent():
    agent = Agent()
    yield agent
    agent.close()


@pytest.fixture
def interpreters(agent):
    """A function that starts adopted interpreters, which end with the test."""
    started = []

    def start(**fields):
        started.append(agent.start(**fields))
        return started[-1]

    yield start
    for interpreter in started:
        interpreter.close()
        while agent.report()["pid"] != interpreter.pid:
            pass
