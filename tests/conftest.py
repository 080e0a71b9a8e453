"""What holds for all tests: hypothesis sets no time limit for one example, as a busy machine would break it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("gmesh", deadline=None)
settings.load_profile("gmesh")
