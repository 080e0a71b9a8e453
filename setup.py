from setuptools import setup

setup(name="gmesh", version="0.1.0")
