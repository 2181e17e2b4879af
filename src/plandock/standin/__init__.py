"""A scripted stand-in for the model's API, for the demo, the tests and repairs.

It listens on 127.0.0.1 alone, knows nothing of plandock and needs nothing but the standard
library. See `StandIn` (the server), `Script` (what it answers) and the ready scenes.
"""

from plandock.standin.requests import Request
from plandock.standin.scenes import (
    EXECUTION_MATCH,
    LOCAL_EXECUTION_FILE,
    bash,
    commit,
    edit_file,
    execution_scene,
    local_execution,
    local_execution_scene,
    planning_scene,
    read_file,
    write_file,
)
from plandock.standin.script import (
    Failure,
    FailureKind,
    Scene,
    Script,
    ScriptError,
    ToolCall,
    Turn,
    failure_from_json,
    load_script,
    script_from_json,
    to_json,
)
from plandock.standin.server import StandIn

__all__ = [
    "EXECUTION_MATCH",
    "LOCAL_EXECUTION_FILE",
    "Failure",
    "FailureKind",
    "Request",
    "Scene",
    "Script",
    "ScriptError",
    "StandIn",
    "ToolCall",
    "Turn",
    "bash",
    "commit",
    "edit_file",
    "execution_scene",
    "failure_from_json",
    "load_script",
    "local_execution",
    "local_execution_scene",
    "planning_scene",
    "read_file",
    "script_from_json",
    "to_json",
    "write_file",
]
