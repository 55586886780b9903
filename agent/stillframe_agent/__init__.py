"""The node agent: from a name in a pod's /dev/shm to an acknowledged report.

One module per concept: `watch` (notice), `decide` (what to do about it),
`worker` (do it, N at once), `identity` and `pods` (whose it is), `artifacts`
(what is kept, and for how long), `report` (what is told), `spool` and `submit`
(until it is acknowledged), `health` (what it says of itself).  Capturing and
analysing are `stillframe.capture` and `stillframe.analysis`: this package only
adds Kubernetes, without ever talking to its API server.
"""
