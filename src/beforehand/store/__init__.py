"""Every name on disk, the manifest and its versions, atomic files, hashes."""
