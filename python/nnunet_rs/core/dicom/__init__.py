"""DICOM: series found in folders and zips, put in order, and read as images."""
