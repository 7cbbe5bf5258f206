"""Video: reading and writing it honestly, enhancing it stably, long jobs that survive.

    in        inputs -> source (damage, clock) or stills -> planes (colour) -> Frame
    between   enhancer: VideoEnhancer (scenes, smoothing, conditions, warm, flow, memory); pipeline: the three threads
    out       Frame -> planes -> segment (encoding) -> mux; or stills, or pipes
    a job     job (journal, careful, interrupts, watch, opening, outputs, spool)

Nothing here imports PyAV before a video is opened.
"""
