"""What a case is: types, kernels, geometry, files, datasets. Nothing here knows torch."""
