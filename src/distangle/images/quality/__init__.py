"""Quality of images: measurements of planes and the checks that rest on them."""
