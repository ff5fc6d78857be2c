"""The packages of a wheel: every folder of emo and shards, and launch/ as emo.launch."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["emo", "emo.*", "shards", "shards.*"]),
        "emo.launch",
    ],
    package_dir={"emo.launch": "launch"},
)
