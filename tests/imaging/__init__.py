"""Tests of blemish.imaging."""
