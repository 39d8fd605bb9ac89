"""INT8: calibration data captured and checked, and segments quantised with it (docs/precision.md)."""
