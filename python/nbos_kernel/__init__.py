"""The interpreter side of NotebookOS.

zygote       a small process that forks interpreters on demand
app          one interpreter: stock ipykernel on ipc sockets, without HMAC
interpreter  the ipykernel subclass: run, capture, send the delta, reply
link         the private socket to the agent, and its frames
engine       what a cell changed, and how another interpreter repeats it

The contract with the agent is docs/reference/interpreter-protocol.md.
"""

__version__ = "0.1.0"
