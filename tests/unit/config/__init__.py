"""Tests of edge.config."""
