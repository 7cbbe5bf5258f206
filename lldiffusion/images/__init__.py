"""Reading and writing photographs: PNG, JPEG, WebP and TIFF, 8 and 16 bit, through libvips; BMP through Pillow.

    image     what a picture is in memory; the formats by their suffix
    reading   a file to an `Image`
    writing   an `Image` to a file
    metadata  profiles, EXIF, and whether a WebP is lossless
    bmp       Windows bitmaps
    libvips   the library: started once and silenced, its errors, forks

What comes in, and how it is treated:

- grey becomes three equal channels (and is written back as one channel); a palette is expanded; bilevel becomes 8 bit;
- EXIF orientation is applied, so pixels are always upright; the tag is 1 in what is written;
- an RGB or grey ICC profile other than sRGB is *not* converted: its numbers are processed as they are and the profile
  is written back, so colours keep their meaning;
- CMYK is converted to sRGB through its own profile, which is then dropped;
- float (and CIELAB), signed and 32-bit TIFF are refused: they have no agreed white point;
- of several pages or frames the first is read;
- EXIF is kept in JPEG, PNG and WebP; TIFF keeps size, depth, alpha, profile and resolution, but not its camera tags;
  BMP has 8 bits and keeps resolution only;
- a damaged or truncated file is an error, never a half-grey picture.
"""

from .image import FORMATS, IMAGE_SUFFIXES, Format, Image, list_images, to_uint8
from .reading import image_size, read_image
from .writing import through_jpeg, write_image

__all__ = [
    "FORMATS",
    "IMAGE_SUFFIXES",
    "Format",
    "Image",
    "image_size",
    "list_images",
    "read_image",
    "through_jpeg",
    "to_uint8",
    "write_image",
]
