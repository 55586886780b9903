"""The types of the Kubernetes API we own: data and bounds, no behaviour, no I/O.

The CRDs in ``crds/`` are generated from these classes, descriptions included.
"""
