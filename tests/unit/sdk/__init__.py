"""Unit tests of `backend_sdk`, one file per module."""
