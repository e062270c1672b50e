"""What tables say of wells, in whatever words, and how they meet the images."""
