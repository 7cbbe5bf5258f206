"""Pairs of low and normal-light photographs: folder layouts, simulation, checks, training crops."""
