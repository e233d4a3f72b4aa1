"""From one clip to a thousand: manifests, what is done of them, and the engines that do it. Stdlib only."""
