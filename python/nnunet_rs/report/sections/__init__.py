"""The parts of a report, one module each: from what a work folder holds to blocks that the page lays out."""
