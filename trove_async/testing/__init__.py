"""For driver authors: a pytest plugin that proves a driver, faults, and a stepper.

pytest --trove-driver=package.module:factory [--trove-report=PATH] [--trove-stack=NAME]
"""
