"""Examples may take their time: the machine may be busy, and no property is about speed."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
