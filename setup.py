from setuptools import setup

setup(cffi_modules=["rootless/_syscalls_build.py:ffi"], options={"bdist_wheel": {"py_limited_api": "cp311"}})
