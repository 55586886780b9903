"""Capture: what is taken from a crashed process while the kernel can still vouch for it.

Flows in: the directory a library writes its snapshots to, and one name in it.
Flows out: a `Capture`, the evidence and the facts that later stages need.
Called by the agent's workers and by ``stillframe run``, so that both are one
implementation.  Deliberately absent: Kubernetes (whose process it is) and
analysis (what the evidence means).

One module per stage: `handover` (names, locks), `identity` (whose file),
`copying` (our own durable copy), `modules` (the mapped files), `fullcore` (all memory,
read by `tracer`, a process of its own), `pipeline` (the sentence that uses them
all).  `refusals` lists every reason to say no;
`leftovers` cleans up, `kernel` holds the system calls Python lacks.
"""
