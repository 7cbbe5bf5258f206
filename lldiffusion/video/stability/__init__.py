"""Stability over time: where a shot ends, how its conditions are smoothed, and what one frame leaves to the next.

    scenes         where a shot ends
    smoothing      the means of the features, smoothed in seconds
    conditions     features computed, smoothed and kept over the frames of a shot
    frame_state    what one frame leaves to the next, as arrays for a file
    flow           motion between frames
    warm_start     sampling that starts from the last result
    flicker        a measure of flicker

Nothing here knows of files.
"""
