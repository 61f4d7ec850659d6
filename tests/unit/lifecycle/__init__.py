"""Tests of edge.lifecycle."""
