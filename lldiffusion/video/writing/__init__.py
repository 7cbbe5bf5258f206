"""Writing: frames become segments, and segments a file that holds everything else of the input, too.

    encoding          container, codec, pixel format and quality
    phones            what every phone plays, and where a result may not
    avi               packets at the places of one frame rate
    animation         GIF, APNG and animated WebP; palette: the 256 colours of a GIF
    segment           some seconds of video in a file of their own
    mux               segments and the input's other streams, put together
    image_sequence    numbered pictures instead of a video file
    outputs           where a job's segments go
    pipes             standard output as a video

Nothing here knows of models.
"""
