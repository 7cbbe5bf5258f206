"""Reading: what the user names as input becomes frames, each with its own time.

    inputs            files, URLs, cameras and standard input, opened
    source            the frames of a video
    animation         GIF, APNG and WebP: how often they play; animated WebP's pictures
    image_sequence    pictures in a folder as a video
    deinterlace       fields to whole pictures
    clock             times that are missing or do not rise
    damage            frames that were lost, stood in for and reported
    spool             the other streams of an input that can be read only once

Nothing here knows of models or of outputs.
"""
