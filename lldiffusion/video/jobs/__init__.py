"""Jobs: a video from beginning to end; whatever happens, what is finished stays.

    job           the run of a job, and of a stream that cannot be resumed
    journal       the folder of a job: which segments are finished
    pipeline      decoding, enhancing and encoding at the same time
    fallback      float32 or smaller tiles where a frame fails
    progress      what a job measures and shows while it runs
    open_model    the model of a job

Everything that users see of a job comes from here, or from the command line.
"""
