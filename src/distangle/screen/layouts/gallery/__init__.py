"""The tables of the Cell Painting Gallery: `load_data.csv`, barcodes, plate maps, JUMP's wells."""
