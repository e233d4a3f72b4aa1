"""Files of other programs: 2D keypoints and calibrations, told apart by their content."""
