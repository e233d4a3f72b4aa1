"""What pictures show: people, faces, keypoints and masks; one camera lifted to space. Every wing sees by it."""
