"""Writes a program into an archive that is the same for the same program, whenever and wherever it is written. Prints the SHA-256 of
the archive.

Usage: archive.py PROGRAM ARCHIVE
"""

import hashlib
import sys
import zipfile

program, archive = sys.argv[1:]
entry = zipfile.ZipInfo("bootstrap", date_time=(1980, 1, 1, 0, 0, 0))
entry.compress_type = zipfile.ZIP_DEFLATED
entry.create_system = 3  # Unix, which has the permissions
entry.external_attr = 0o100755 << 16
with open(program, "rb") as file, zipfile.ZipFile(archive, "w") as written:
    written.writestr(entry, file.read(), compresslevel=9)
with open(archive, "rb") as file:
    print(hashlib.file_digest(file, "sha256").hexdigest())
