"""Puts the folders configs/, experiments/ and launch/ into the wheel, within the package deepconv.repository."""

from setuptools import find_namespace_packages, find_packages, setup

FOLDERS = ("configs", "experiments", "launch")
found = find_namespace_packages(include=[*FOLDERS, *(f"{name}.*" for name in FOLDERS)], exclude=["*__pycache__*"])
inside = {f"deepconv.repository.{name}": name.replace(".", "/") for name in found}
setup(packages=[*find_packages(include=["deepconv*"]), *inside], package_dir=inside)
