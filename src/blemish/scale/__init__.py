"""Past one machine: batch scoring of very many images, many inspectors at once, on engines that exist."""
