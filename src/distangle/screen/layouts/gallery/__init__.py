"""Tables of the Cell Painting Gallery: `load_data.csv`, barcodes, plate maps."""
