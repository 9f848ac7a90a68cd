"""Past one machine: very many images, many inspectors, on engines that exist."""
