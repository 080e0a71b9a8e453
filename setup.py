"""What gmesh is as a package. Tool settings are in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """The version from the package, without importing it (its dependencies may not be there yet)."""
    source = (HERE / "gmesh" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if found is None:
        raise RuntimeError("gmesh/__init__.py has no __version__")
    return found.group(1)


setup(
    name="gmesh",
    version=version(),
    description="A mesh VPN daemon that takes the place of tinc: same directories, same wire",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["gmesh", "gmesh.*"]),
    package_data={"gmesh": ["py.typed"], "gmesh.config": ["options.json"]},
    zip_safe=False,
    install_requires=[
        "gevent>=24.10",  # the loop: greenlets, servers, subprocesses, names resolved in threads
        "pycryptodome>=3.20",  # ciphers, digests and raw RSA in the forms the protocol has
        "python-pytun>=2.4; sys_platform == 'linux'",  # opens tun and tap devices
        "configobj>=5.0.8",  # its Validator checks the values of settings
        "docopt>=0.6.2",  # command lines from their help texts
    ],
    extras_require={
        "fast": ["cryptography>=42"],  # the same ciphers three times as fast, where a build exists
        "compress": [
            "lzallright>=0.2.5",  # LZO without GPL code, for Compression = 10 and 11
            "lz4>=4",  # LZ4 blocks, for Compression = 12
        ],
        "test": [
            "pytest>=8",  # runs the tests
            "pytest-timeout>=2.3",  # a test that hangs fails
            "pytest-xdist>=3.5",  # both cores work on unit tests
            "hypothesis>=6.100",  # properties over invented input
            "mypy>=1.11",  # types
            "ruff>=0.6",  # style and form
        ],
    },
    entry_points={
        "console_scripts": [
            "gmeshd=gmesh.cli.gmeshd:main",
            "gmesh=gmesh.cli.main:main",
            "gmesh-keygen=gmesh.cli.keygen:main",
        ]
    },
    classifiers=[
        "Environment :: No Input/Output (Daemon)",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Topic :: System :: Networking",
        "Typing :: Typed",
    ],
)
