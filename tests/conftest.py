"""What holds for all tests.

Hypothesis sets no time limit for one example, as a busy machine would break it. And Ctrl-C reaches what tests start: a
runner in the background of a script ignores it, and everything below would, too.
"""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("gmesh", deadline=None)
settings.load_profile("gmesh")
signal.signal(signal.SIGINT, signal.default_int_handler)
