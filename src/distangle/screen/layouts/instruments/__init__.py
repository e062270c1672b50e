"""What microscopes write beside their images: names of channels, size of a pixel, which file is of which well."""
