"""Pure functions on arrays: decode, resample, boxes, cascade steps, crops."""
