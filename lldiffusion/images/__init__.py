"""Reading and writing photographs, 8 and 16 bit.  What is kept, converted and dropped: docs/formats.md.

    image     what a picture is in memory
    formats   formats by their suffix
    reading   a file to an `Image`, by what opens it: by_libvips, bmp, heic, jxl, raw; decoded is what they hand over
    writing   an `Image` to a file
    metadata  what each format keeps of EXIF, XMP, IPTC and text
    exif      blocks, upright and without their thumbnail, in and out of TIFF
    colour    a picture's own colours to sRGB, and back
    icc       profiles that are a matrix and curves
    coded     colours said by code points and PNG chunks
    directories   the tags of TIFF files and EXIF blocks
    libvips   the library: started once and silenced, its errors, forks

What comes in, and how it is treated:

- grey becomes three equal channels (and is written back as one channel); a palette is expanded; bilevel becomes 8 bit;
- EXIF orientation is applied, so pixels are always upright; the tag is 1 in what is written;
- pixels are sRGB: an RGB or grey ICC profile, or PNG's cICP, gAMA and cHRM, are converted in float, and back to the
  picture's own profile when it is written (BMP, which has none, holds sRGB); what is sRGB already is not touched;
- PQ and HLG (HDR) are refused;
- CMYK is converted to sRGB through its own profile, which is then dropped;
- float (and CIELAB), signed and 32-bit TIFF are refused: they have no agreed white point;
- of several pages or frames the first is read, and that is said (`Image.notes`);
- camera RAW is developed; a mosaic or a thumbnail is never taken for the picture;
- more than 200 million pixels are refused by the header;
- EXIF (without its thumbnail), XMP, IPTC and PNG text are kept where the format can, and named where it cannot;
- a damaged or truncated file is an error, never a half-grey picture.
"""

from .formats import FORMATS, IMAGE_SUFFIXES, LOSSY, RAW_SUFFIXES, READ_ONLY, Format, check_format
from .image import Image, list_images, to_uint8
from .reading import MAX_PIXELS, image_format, image_size, read_image
from .writing import through_jpeg, write_image

__all__ = [
    "FORMATS",
    "IMAGE_SUFFIXES",
    "LOSSY",
    "MAX_PIXELS",
    "RAW_SUFFIXES",
    "READ_ONLY",
    "Format",
    "Image",
    "check_format",
    "image_format",
    "image_size",
    "list_images",
    "read_image",
    "through_jpeg",
    "to_uint8",
    "write_image",
]
