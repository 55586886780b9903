"""The cluster's side: injects the library into pods and records their crashes.

Pure modules (no I/O): ``settings optin preload inject crash group deaths
missed authority limits text``.  Thin shells: ``kube webhook intake store
certs lease controllers`` and the rest.  Never sees a core.
"""
