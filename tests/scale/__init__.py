"""Tests of scoring past one machine."""
