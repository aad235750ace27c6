"""Files and folders, local and on S3: one path type, atomic writes, locks."""
