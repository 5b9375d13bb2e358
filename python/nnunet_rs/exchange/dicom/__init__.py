"""Segmentations as DICOM: SEG and RTSTRUCT written, datasets made of series and their labels."""
