"""The motion wing: footage or keypoint files to a moving skeleton."""
